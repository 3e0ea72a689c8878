"""Poly-EPO: the closed form against all sets, the gradient against the enumerated one, the filter of equal groups."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.set_objective import SetObjective, mean_set_scores, set_advantages
from lightning_gfn.objectives.advantage_rules.uniqueness import Uniqueness
from lightning_gfn.objectives.grpo import GRPO

Gradient = Callable[..., Tensor]
REWARDS, CLASSES = [1.0, 1.0, 0.0, 0.5], [0, 1, 2, -1]


def score(rewards: list[float], classes: list[int]) -> float:
    """The polychromic score of one set, as the paper defines it."""
    distinct = {c for c in classes if c >= 0}
    share = len(distinct) / len(classes) if len(distinct) > 1 else 0.0
    return sum(rewards) / len(rewards) * share


@pytest.mark.parametrize("set_size", [2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_mean_scores_are_those_of_all_sets(set_size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reward = torch.rand(7, generator=generator, dtype=torch.float64)
    classes = torch.randint(-1, [1, 2, 4, 2, 8, 3][seed], (7,), generator=generator)
    sets = list(itertools.combinations(range(7), set_size))
    scores = {s: score(reward[list(s)].tolist(), classes[list(s)].tolist()) for s in sets}
    expected = [sum(v for s, v in scores.items() if i in s) / sum(i in s for s in sets) for i in range(7)]
    found = mean_set_scores(reward, classes, set_size)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("set_size", [2, 3])
def test_the_gradient_is_unbiased(set_size: int, true_gradient: Gradient, estimate: Gradient) -> None:
    reward, classes = torch.tensor(REWARDS, dtype=torch.float64), torch.tensor(CLASSES)
    found = estimate(lambda batch: set_advantages(reward[batch], classes[batch], set_size), 4)
    expected = true_gradient(lambda z: score([REWARDS[i] for i in z], [CLASSES[i] for i in z]), set_size)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert found.abs().max() > 1e-2


def test_a_wrong_sample_of_a_new_class_gains_beside_right_ones() -> None:
    """The paper's optimism; one class alone teaches nothing."""
    reward = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    found = set_advantages(reward, torch.tensor([0, 0, 0, 0, 0, 1]), 3)
    assert found[5] > 0 > found[4] and found.sum().abs() < 1e-5
    assert set_advantages(reward, torch.zeros(6, dtype=torch.int64), 3).tolist() == [0.0] * 6


def test_the_filter_keeps_groups_that_are_right_in_different_ways(grpo_columns: dict[str, Tensor]) -> None:
    columns = {
        **grpo_columns,
        "group_B": torch.arange(12) // 4,
        "log_reward_B": torch.tensor([1.0] * 8 + [0.0] * 4, dtype=torch.float64),
        "class_B": torch.tensor([0, 0, 1, 0, 2, 2, 2, 2, 0, 1, 2, 3]),
    }
    objective = GRPO(advantage=SetObjective(2), advantage_scale="none", drop_equal_groups=True)
    prepared = objective.prepare(columns)
    assert prepared["keep_B"].tolist() == [True] * 4 + [False] * 8
    assert prepared["advantage_B"][:4].abs().min() > 0 and prepared["advantage_B"][4:].tolist() == [0.0] * 8
    assert not bool(GRPO(drop_equal_groups=True).prepare(columns)["keep_B"].any())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="set_size is 1, expected at least 2"):
        SetObjective(1)
    with pytest.raises(ValueError, match="4 samples: raise model.num_samples above it"):
        set_advantages(torch.zeros(4), torch.zeros(4, dtype=torch.int64), 4)
    assert SetObjective(4).min_samples == 5


def test_a_wrong_shape_of_classes_names_them(grpo_columns: dict[str, Tensor]) -> None:
    columns = {**grpo_columns, "class_B": grpo_columns["class_B"][:5]}
    for rule, scale in ((SetObjective(2), "none"), (Uniqueness(), "std")):
        with pytest.raises(ValueError, match=r"class_B has shape \(5,\), expected \(12,\)"):
            GRPO(advantage=rule, advantage_scale=scale).prepare(columns)
