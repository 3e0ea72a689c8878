"""Rules on top of group-relative advantages: each against a written loop, and their limits against plain GRPO."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.uniqueness import Uniqueness, class_sizes
from lightning_gfn.objectives.advantage_rules.unlikely import UniformCorrect, Unlikeliness
from lightning_gfn.objectives.grpo import GRPO

Columns = dict[str, Tensor]


def prepared(columns: Columns, **switches: object) -> list[float]:
    return GRPO(**switches).prepare(columns)["advantage_B"].tolist()


def members(columns: Columns, row: int) -> list[int]:
    return [i for i, g in enumerate(columns["group_B"].tolist()) if g == columns["group_B"][row]]


def normalised(reward: list[float], columns: Columns) -> list[float]:
    """GRPO's advantages by the standard library."""
    found = []
    for b, own in enumerate(reward):
        peers = [reward[i] for i in members(columns, b)]
        found.append((own - statistics.mean(peers)) / (statistics.stdev(peers) + 1e-4))
    return found


def log_likelihood(columns: Columns, row: int) -> tuple[float, int]:
    """log q_old of a trajectory and its number of actions, action by action."""
    n = int(columns["mask_BT"][row].sum())
    terms = [columns["old_log_pf_BT"][row, t].item() for t in range(n)]
    if not columns["forced_stop_B"][row]:
        terms.append(columns["old_log_pstop_BT1"][row, n].item())
    return sum(terms), len(terms)


def test_unlikeliness_loop(grpo_columns: Columns) -> None:
    columns = {**grpo_columns}
    columns["log_reward_B"] = columns["log_reward_B"].clone()
    columns["log_reward_B"][columns["group_B"] == 7] = 1.0  # all right: skipped
    reward = columns["log_reward_B"].tolist()
    likelihood = [log_likelihood(columns, b)[0] for b in range(12)]
    changed = []
    for b, r in enumerate(reward):
        order = sorted(members(columns, b), key=lambda i: -likelihood[i])
        changed.append(r * (1 - 0.25 * (4 - order.index(b)) / 4))
    expected = normalised(changed, columns)
    expected = [0.0 if columns["group_B"][b] == 7 else value for b, value in enumerate(expected)]
    assert prepared(columns, advantage=Unlikeliness()) == pytest.approx(expected, abs=1e-9)
    (right,) = [[i for i in members(columns, 1) if reward[i] == 1.0]]
    ranked = sorted(right, key=lambda i: likelihood[i])
    assert len(ranked) > 1 and expected[ranked[0]] > expected[ranked[-1]] > 0, "the less probable one gains more"


def test_equally_probable_copies_share_a_rank(grpo_columns: Columns) -> None:
    columns = {**grpo_columns, "group_B": torch.zeros(12, dtype=torch.int64)}
    for name in ("old_log_pf_BT", "old_log_pstop_BT1", "mask_BT", "forced_stop_B"):
        columns[name] = columns[name][[0] * 12]
    found = prepared(columns, advantage=Unlikeliness(beta=1.0), advantage_scale="none")
    reward = grpo_columns["log_reward_B"] * 0.0
    assert found == pytest.approx(reward.tolist()), "all are the most probable one, which β = 1 leaves nothing"


def test_uniform_correct_loop(grpo_columns: Columns) -> None:
    plain = normalised(grpo_columns["log_reward_B"].tolist(), grpo_columns)
    expected = []
    for b, advantage in enumerate(plain):
        right = [i for i in members(grpo_columns, b) if grpo_columns["log_reward_B"][i] > 0]
        inverse = {i: math.exp(-log_likelihood(grpo_columns, i)[0] / log_likelihood(grpo_columns, i)[1]) for i in right}
        share = 0.8 / len(right) + 0.2 * inverse[b] / sum(inverse.values()) if b in right else 0.0
        expected.append(advantage * len(right) * share if b in right else advantage)
    found = prepared(grpo_columns, advantage=UniformCorrect(0.2))
    assert found == pytest.approx(expected, abs=1e-9) and found != pytest.approx(plain)
    for group in (7, 8, 9):
        rows = [b for b in range(12) if grpo_columns["group_B"][b] == group and grpo_columns["log_reward_B"][b] > 0]
        assert sum(found[b] for b in rows) == pytest.approx(sum(plain[b] for b in rows)), "nothing is added"


def test_full_uniformity_makes_advantage_times_probability_equal(grpo_columns: Columns) -> None:
    found = prepared(grpo_columns, advantage=UniformCorrect(1.0))
    for group in (7, 8, 9):
        rows = [b for b in range(12) if grpo_columns["group_B"][b] == group and grpo_columns["log_reward_B"][b] > 0]
        pulls = [found[b] * math.exp(log_likelihood(grpo_columns, b)[0] / log_likelihood(grpo_columns, b)[1])
                 for b in rows]  # fmt: skip
        assert pulls == pytest.approx([pulls[0]] * len(rows))


@pytest.mark.parametrize("weigh", ["correct", "all"])
def test_uniqueness_loop(weigh: str, grpo_columns: Columns) -> None:
    plain = normalised(grpo_columns["log_reward_B"].tolist(), grpo_columns)
    kinds = grpo_columns["class_B"].tolist()
    expected = []
    for b, advantage in enumerate(plain):
        size = sum(kinds[i] == kinds[b] for i in members(grpo_columns, b)) if kinds[b] >= 0 else 1
        counts = weigh == "all" or grpo_columns["log_reward_B"][b] > 0
        expected.append(advantage / size**0.5 if counts else advantage)
    found = prepared(grpo_columns, advantage=Uniqueness(0.5, weigh=weigh))
    assert found == pytest.approx(expected, abs=1e-9) and found != pytest.approx(plain)


def test_classes_of_right_samples_pull_equally(grpo_columns: Columns) -> None:
    columns = {**grpo_columns, "group_B": torch.zeros(12, dtype=torch.int64)}
    columns["class_B"] = torch.tensor([0, 0, 0, 5, 1, 1, 2, 6, 0, 7, 8, 9])
    found = prepared(columns, advantage=Uniqueness())
    right = columns["log_reward_B"] > 0
    pulls = [sum(found[b] for b in range(12) if right[b] and columns["class_B"][b] == kind) for kind in range(3)]
    assert pulls == pytest.approx([pulls[0]] * 3) and pulls[0] > 0


def test_ids_mean_something_within_a_group_alone() -> None:
    sizes = class_sizes(torch.tensor([4, 4, 4, 9, 9, 9]), torch.tensor([0, 0, -1, 0, -1, -1]))
    assert sizes.tolist() == [2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("rule", [Unlikeliness(beta=0.0), UniformCorrect(tau=0.0), Uniqueness(power=0.0)])
def test_switched_off_each_is_plain_grpo(rule: object, grpo_columns: Columns) -> None:
    assert prepared(grpo_columns, advantage=rule) == pytest.approx(prepared(grpo_columns))


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: Unlikeliness(1.5), "beta is 1.5"), (lambda: UniformCorrect(-0.1), "tau is -0.1"),
     (lambda: Uniqueness(-1.0), "power is -1.0"), (lambda: Uniqueness(weigh="wrong"), "advantage.weigh is 'wrong'")],
)  # fmt: skip
def test_values_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
