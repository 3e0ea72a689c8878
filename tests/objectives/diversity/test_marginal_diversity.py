"""SetPO: the contributions against a written loop, the linear one's gradient against the enumerated one, the rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.marginal_diversity import MarginalDiversity, diversity, marginal_diversity
from lightning_gfn.objectives.grpo import GRPO

Gradient = Callable[..., Tensor]
Shape = Literal["log", "linear"]
CLASSES = [0, 1, 0, -1]


def looped(k: list[list[float]], shape: str) -> float:
    """The diversity of a set, written out; that of a sample alone is g(0)."""
    total = 0.0
    for i, row in enumerate(k):
        others = [row[j] for j in range(len(k)) if j != i]
        u = sum(others) / len(others) if others else 0.0
        total += -math.log(1.0 + u) if shape == "log" else 1.0 - u
    return total / len(k)


def alike(classes: list[int]) -> list[list[float]]:
    return [[float(a == b and a >= 0) for b in classes] for a in classes]


@pytest.mark.parametrize("shape", ["log", "linear"])
@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_contributions_are_those_of_the_sets_without_each_sample(n: int, shape: Shape) -> None:
    k = torch.rand((n, n), generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    k = (k + k.T) / 2
    table = k.tolist()
    whole = looped(table, shape)
    for i, found in enumerate(marginal_diversity(k, shape).tolist()):
        rest = [j for j in range(n) if j != i]
        assert found == pytest.approx(whole - looped([[table[a][b] for b in rest] for a in rest], shape), abs=1e-12)


@pytest.mark.parametrize("n", [3, 4])
def test_the_linear_gradient_is_unbiased(n: int, true_gradient: Gradient, estimate: Gradient) -> None:
    def weights(batch: list[int]) -> Tensor:
        k = torch.tensor(alike([CLASSES[z] for z in batch]), dtype=torch.float64)
        return n * marginal_diversity(k, "linear")

    expected = true_gradient(lambda z: 1.0 - alike([CLASSES[i] for i in z])[0][1], 2)
    torch.testing.assert_close(estimate(weights, n), expected, atol=1e-12, rtol=1e-12)
    assert expected.abs().max() > 1e-2


def test_rare_samples_add_and_frequent_ones_take_away() -> None:
    k = torch.tensor(alike([0] * 6 + [1] * 2), dtype=torch.float64)
    log, linear = marginal_diversity(k, "log"), marginal_diversity(k, "linear")
    assert log[-1] > 0 > log[0] and linear[-1] > 0 > linear[0]
    assert linear.sum().abs() < 1e-12, "a mean over pairs has contributions that add up to 0"
    falls = [[float(diversity(torch.tensor(u), shape)) for u in (0.0, 0.5, 1.0)] for shape in ("log", "linear")]
    assert falls[0][0] - falls[0][1] > falls[0][1] - falls[0][2], "the first likeness costs most"
    assert falls[1] == [1.0, 0.5, 0.0]


def test_a_rare_way_gains_and_one_way_alone_changes_nothing(grpo_columns: dict[str, Tensor]) -> None:
    rare = {
        **grpo_columns,
        "group_B": torch.arange(12) // 6,
        "log_reward_B": torch.tensor([1.0] * 5 + [0.0] + [1.0] * 6, dtype=torch.float64),
        "class_B": torch.tensor([0, 0, 0, 1, -1, 2] + [3] * 6),
    }
    bonus = MarginalDiversity(2.0).bonus(rare)
    k = torch.tensor(alike([0, 0, 0, 1, -1]), dtype=torch.float64)
    torch.testing.assert_close(bonus[:5], 2.0 * marginal_diversity(k, "log"), atol=1e-12, rtol=1e-12)
    assert bonus[3] > 0 and bonus[4] > 0 > bonus[0] and bonus[5:].abs().max() == 0.0
    every = MarginalDiversity(2.0, among="all").bonus(rare)
    assert every[5] > 0, "among all samples a wrong one of its own class adds to the diversity"
    plain, ruled = (GRPO(advantage=rule).prepare(rare) for rule in (None, MarginalDiversity(2.0)))
    torch.testing.assert_close(ruled["advantage_B"], plain["advantage_B"] + bonus, atol=1e-12, rtol=1e-12)


def test_weight_zero_is_grpo(grpo_columns: dict[str, Tensor]) -> None:
    plain, ruled = (GRPO(advantage=rule).prepare(grpo_columns) for rule in (None, MarginalDiversity(0.0)))
    assert torch.equal(plain["advantage_B"], ruled["advantage_B"])


def test_the_filter_keeps_equal_groups_that_the_rule_tells_apart(grpo_columns: dict[str, Tensor]) -> None:
    columns = {
        **grpo_columns,
        "group_B": torch.arange(12) // 4,
        "log_reward_B": torch.tensor([1.0] * 8 + [0.0] * 4, dtype=torch.float64),
        "class_B": torch.tensor([0, 0, 1, 0, 2, 2, 2, 2, 0, 1, 1, 3]),
    }
    keeps = [
        GRPO(advantage=rule, drop_equal_groups=True).prepare(columns)["keep_B"].tolist()
        for rule in (MarginalDiversity(), MarginalDiversity(among="all"), MarginalDiversity(0.0))
    ]
    assert keeps == [[True] * 4 + [False] * 8, [True] * 4 + [False] * 4 + [True] * 4, [False] * 12]


def test_settings_that_cannot_work_are_refused(grpo_columns: dict[str, Tensor]) -> None:
    for settings, match in (
        ({"weight": -1.0}, "advantage.weight is -1"),
        ({"weight": math.inf}, "advantage.weight is inf"),
        ({"shape": "cubic"}, "advantage.shape"),
        ({"among": "wrong"}, "advantage.among"),
    ):
        with pytest.raises(ValueError, match=match):
            MarginalDiversity(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="similarity_NN"):
        marginal_diversity(torch.zeros(3, 2), "log")
    assert MarginalDiversity().requires == {"class_B"} and marginal_diversity(torch.ones(1, 1), "log").tolist() == [0.0]
