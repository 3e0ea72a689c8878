"""Advantages that rare ways of solving a problem raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.base import AdvantageRule, PlainAdvantages, classes_of
from lightning_gfn.objectives.functional.checks import check_choice

WEIGHED = ("correct", "all")


def class_sizes(group_B: Tensor, class_B: Tensor) -> Tensor:
    """How many trajectories of a group belong to each trajectory's class, itself included; 1 for those without one.

    Args:
        group_B: (B,) int64.
        class_B: (B,) int64, equal within a group for trajectories of one class; below 0 for none.

    Returns:
        (B,) int64.
    """
    _, index_B, count_C = torch.unique(torch.stack([group_B, class_B]), dim=1, return_inverse=True, return_counts=True)
    return torch.where(class_B < 0, 1, count_C[index_B])


@dataclass(frozen=True)
class Uniqueness(AdvantageRule):
    """Advantages weighted by how rare the way of solving is among the samples of the problem.

        A_b ← A_b / f_b^α,    f_b: samples of the problem in the class of b (1 for samples without a class)

    Classes come from ``model.solution_classes``.

    Args:
        power: α; 1 lets the classes of a problem pull equally, 0 is plain GRPO.
        weigh: ``correct`` samples alone, or ``all``, wrong ones with their negative advantages included.

    Source: Hu et al. 2026, arXiv:2601.08763: advantages times 1 / f^α, f the size of the class that a judge puts the
    sample in. The formula is that of secondary notes: the abstract says "inversely with cluster size", notes give the
    power (the paper does not report its value) and say that all signed advantages are weighted (``weigh: all``). Here
    classes are exact ones instead of a judge's, and the default leaves wrong samples as they are.
    """

    power: float = 1.0
    weigh: Literal["correct", "all"] = "correct"

    def __post_init__(self) -> None:
        check_choice("advantage.weigh", self.weigh, WEIGHED)
        if self.power < 0.0:
            raise ValueError(f"advantage.power is {self.power}, expected at least 0")

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"class_B"})

    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """The objective's advantages, divided by a power of the class's size."""
        advantage_B = plain(reward_B)
        weight_B = class_sizes(columns["group_B"], classes_of(columns)).to(advantage_B) ** -self.power
        if self.weigh == "correct":
            weight_B = torch.where(columns["log_reward_B"] > 0.0, weight_B, 1.0)
        return advantage_B * weight_B
