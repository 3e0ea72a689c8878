"""A trained reward model as a reward: aggregation by written loops, prefixes that agree with finished trajectories."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.learned import AGGREGATES, LearnedReward
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.types import Problem, Rollouts

PROBLEM = Problem(id="p", prompt="1 + 1?\n", answer="2")
TEXTS = ("a = 1\nb = 2\nThe answer is: 2", "c\n", "d", "", "\ne\n\nf\n", "The answer is: 3\ng")
MakeRollouts = Callable[..., Rollouts]


def score_of(prompt: str, steps: Sequence[str]) -> float:
    """A fixed score of a beginning of a solution that no simple rule predicts."""
    return float(sum((i + 1) * ord(c) for i, c in enumerate(prompt + "".join(steps))) % 107) / 20 - 2.5


class FakeNetwork(RewardNetwork):
    """Scores by ``score_of``."""

    def __init__(self, is_calibrated: bool = True) -> None:
        self.is_calibrated = is_calibrated
        self.calls: list[list[list[str]]] = []

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        self.calls.append([list(solution) for solution in steps])
        return [
            [score_of(prompt, solution[: k + 1]) for k in range(len(solution))]
            for prompt, solution in zip(prompts, steps, strict=True)
        ]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def written(steps: list[str], aggregate: str) -> float:
    """log R of a solution in these steps, from probabilities."""
    p = [sigmoid(score_of(PROBLEM.prompt, steps[: k + 1])) for k in range(len(steps))]
    value = {"product": math.prod(p), "min": min(p), "last": p[-1], "mean": sum(p) / len(p)}[aggregate]
    return math.log(value)


@pytest.fixture
def rollouts(make_rollouts: MakeRollouts) -> Rollouts:
    return make_rollouts([PROBLEM], TEXTS, [0] * len(TEXTS))


def terminal(reward: LearnedReward, rollouts: Rollouts, policy: Any) -> list[float]:
    terms, correct_B = reward.terms(rollouts, policy, prefixes=False)
    assert correct_B is None
    return reward.combine(terms, rollouts, 0).terminal_B.tolist()


@pytest.mark.parametrize("aggregate", list(AGGREGATES))
def test_aggregates_against_probabilities(aggregate: Any, rollouts: Rollouts, policy: Any) -> None:
    reward = LearnedReward(FakeNetwork(), aggregate=aggregate, floor=-50.0)
    steps = [
        ["a = 1\n", "b = 2\n", "The answer is: 2"], ["c\n"], ["d"], [], ["\ne\n", "\nf\n"], ["The answer is: 3\n", "g"]
    ]  # fmt: skip
    found = terminal(reward, rollouts, policy)
    assert found == pytest.approx([written(s, aggregate) if s else -50.0 for s in steps], abs=1e-5)


def test_planted_errors_are_noticed(rollouts: Rollouts, policy: Any) -> None:
    """Another aggregate, a missing sigmoid or a shifted step would give other numbers."""
    values = {name: terminal(LearnedReward(FakeNetwork(), aggregate=name), rollouts, policy)[0] for name in AGGREGATES}
    assert len({round(value, 3) for value in values.values()}) == 4
    assert terminal(LearnedReward(FakeNetwork(False), aggregate="last"), rollouts, policy)[0] == pytest.approx(
        score_of(PROBLEM.prompt, [TEXTS[0]]), abs=1e-5
    )


@pytest.mark.parametrize("aggregate", list(AGGREGATES))
def test_a_prefix_is_worth_what_it_is_worth_as_a_finished_trajectory(
    aggregate: Any, rollouts: Rollouts, policy: Any, make_rollouts: MakeRollouts
) -> None:
    reward = LearnedReward(FakeNetwork(), aggregate=aggregate, empty=-1.0)
    terms, _ = reward.terms(rollouts, policy, prefixes=True)
    values = reward.combine(terms, rollouts, 0)
    assert values.prefix_BT1 is not None and values.prefix_BT1.shape == (6, rollouts.action_mask_NT.shape[1] + 1)
    assert values.terminal_B.tolist() == pytest.approx(terminal(reward, rollouts, policy))
    compared = 0
    for b, text in enumerate(TEXTS):
        for end in range(len(text) + 1):
            value = values.prefix_BT1[b, end].item()
            if end == 0 or end == len(text) or text[end - 1] == "\n":
                alone = make_rollouts([PROBLEM], [text[:end]], [0])
                assert value == pytest.approx(terminal(reward, alone, policy)[0], abs=1e-5), (b, end)
                compared += 1
            else:
                assert value == reward.floor
        assert values.prefix_BT1[b, len(text) :].unique().numel() == 1
    assert compared >= 15


def test_the_network_is_asked_once_with_every_step_once(rollouts: Rollouts, policy: Any) -> None:
    network = FakeNetwork()
    LearnedReward(network).terms(rollouts, policy, prefixes=True)
    (call,) = network.calls
    assert call[0] == ["a = 1\n", "b = 2\n", "The answer is: 2"] and call[3] == []


def test_floor_empty_and_missing_answers(rollouts: Rollouts, policy: Any) -> None:
    low = terminal(LearnedReward(FakeNetwork(), floor=-1.0), rollouts, policy)
    assert min(low) == pytest.approx(-1.0) and len(set(low)) > 1
    assert terminal(LearnedReward(FakeNetwork(), empty=0.0), rollouts, policy)[3] == 0.0
    answered = terminal(LearnedReward(FakeNetwork(), require_answer=True, empty=0.0, floor=-99.0), rollouts, policy)
    assert [value == -99.0 for value in answered] == [False, True, True, True, True, False]
    terms, _ = LearnedReward(FakeNetwork(), require_answer=True, empty=0.0).terms(rollouts, policy, prefixes=True)
    assert terms["learned"][0, : len(TEXTS[0])].tolist() == [-10.0] * len(TEXTS[0])
    assert torch.isfinite(terms["learned"]).all()


def test_it_adds_up_with_other_rewards(rollouts: Rollouts, policy: Any) -> None:
    learned, answer = LearnedReward(FakeNetwork()), AnswerMatch()
    parts = {"process": WeightedReward(learned, weight=2.0, temperature=0.5), "answer": WeightedReward(answer)}
    total = SumReward(parts)
    assert "log_reward_BT1" in total.provides
    terms, correct_B = total.terms(rollouts, policy, prefixes=True)
    value = total.combine(terms, rollouts, 0)
    assert correct_B is not None and correct_B.tolist() == [True] + [False] * 5
    expected = 4.0 * torch.tensor(terminal(learned, rollouts, policy)) + correct_B.float()
    torch.testing.assert_close(value.terminal_B, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregate": "sum"}, "aggregate is 'sum', expected one of product, min, last, mean"),
        ({"floor": -math.inf}, "floor is -inf"),
        ({"empty": math.nan}, "empty is nan"),
        ({"separator": ""}, "separator is empty"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnedReward(FakeNetwork(), **settings)


def test_preferences_have_no_product() -> None:
    with pytest.raises(ValueError, match="trained on preferences.*set aggregate: last"):
        LearnedReward(FakeNetwork(is_calibrated=False))


def test_a_token_that_spans_the_separator(make_policy: Any, make_rollouts: MakeRollouts) -> None:
    """A prefix has the steps of its own text, though they are no beginning of those of the whole solution."""

    class Spanning(make_policy):  # type: ignore[misc]
        def decode(self, ids: Sequence[int]) -> str:
            return super().decode(ids).replace("N", "\n\nSo").replace("E", ".\n\n")

    policy, network = Spanning(max_new_tokens=60), FakeNetwork()
    reward = LearnedReward(network, separator="\n\n", floor=-50.0, empty=-1.0)
    rollouts = make_rollouts([PROBLEM], ["aNbNcEd", "aE", "N"], [0, 0, 0])
    terms, _ = reward.terms(rollouts, policy, prefixes=True)
    known = {
        (0, 0): [], (0, 2): ["a\n\n", "So"], (0, 4): ["a\n\n", "Sob\n\n", "So"], (1, 0): [], (2, 0): [],
        (0, 6): ["a\n\n", "Sob\n\n", "Soc.\n\n"], (0, 7): ["a\n\n", "Sob\n\n", "Soc.\n\n", "d"],
        (1, 2): ["a.\n\n"], (2, 1): ["\n\nSo"],
    }  # fmt: skip
    for b, text in enumerate(("aNbNcEd", "aE", "N")):
        for end in range(len(text) + 1):
            steps = known.get((b, end))
            value = -50.0 if steps is None else written(steps, "product") if steps else -1.0
            assert terms["learned"][b, end].item() == pytest.approx(value, abs=1e-5), (b, end)
    (call,) = network.calls
    assert len(call) == 5, "three solutions, and the two prefixes that begin a step with their last token"
    whole, _ = reward.terms(rollouts, policy, prefixes=False)
    torch.testing.assert_close(whole["learned"], rollouts.at_last_prefix(terms["learned"]))


def test_another_policy_has_other_tokens(make_policy: Any, make_rollouts: MakeRollouts) -> None:
    class Swapped(make_policy):  # type: ignore[misc]
        def decode(self, ids: Sequence[int]) -> str:
            return super().decode(ids).replace("a", "\n")

    reward = LearnedReward(FakeNetwork())
    assert reward.cut(make_policy().encode_completion("xay"), make_policy()) == [3]
    assert reward.cut(make_policy().encode_completion("xay"), Swapped()) == [2, 3]


def test_the_separator_is_the_networks() -> None:
    network = FakeNetwork()
    assert LearnedReward(network).separator == "\n"
    network.separator = "\n\n"
    assert LearnedReward(network).separator == LearnedReward(network, separator="\n\n").separator == "\n\n"
    with pytest.raises(ValueError, match=r"reward.separator is '\\n', but the reward network was trained on.*'\\n\\n'"):
        LearnedReward(network, separator="\n")


def test_a_sum_has_one_separator() -> None:
    one, two = (WeightedReward(LearnedReward(FakeNetwork(), separator=text)) for text in ("\n", "\n\n"))
    assert SumReward({"a": WeightedReward(AnswerMatch()), "b": two}).separator == "\n\n"
    assert SumReward({"a": WeightedReward(AnswerMatch())}).separator is None
    with pytest.raises(ValueError, match=r"SumReward: terms judge steps that end differently.*give all one separator"):
        SumReward({"a": one, "b": two})
