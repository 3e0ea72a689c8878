"""Advantages plus what each sample adds to the diversity of its group (SetPO)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.base import AdvantageRule, PlainAdvantages, classes_of, groups
from lightning_gfn.objectives.functional.checks import check_choice, check_shapes

Shape = Literal["log", "linear"]
SHAPES, AMONG = ("log", "linear"), ("correct", "all")


def marginal_diversity(similarity_NN: Tensor, shape: Shape) -> Tensor:
    """What each of n samples adds to the diversity of the set S of them all.

        Δ_i = D(S) - D(S \\ {i})
        D(S) = mean_{i ∈ S} g(u_i),    u_i = mean_{j ∈ S, j ≠ i} k(z_i, z_j)
        g(u) = -log(1 + u)  (log),     1 - u  (linear)

    A sample that nothing resembles has u = 0, and a sample alone adds nothing. With the linear g, D is the share of
    pairs that differ, and n Δ_i are weights of an unbiased gradient: ∇ E[D] = E[Σ_i Δ_i ∇ log q(z_i)]. With the
    logarithm they are not, since D is no mean over sets of one size.

    Args:
        similarity_NN: (n, n) k, symmetric, from 0 (nothing in common) to 1 (the same); the diagonal is not read.
        shape: g; the logarithm falls fastest at 0: the first likeness costs more than further ones.

    Returns:
        (n,), nats for the logarithm, in the dtype of the similarities.

    Raises:
        ValueError: the table is not square, or there is no such shape.

    Source: that of ``MarginalDiversity``.
    """
    n = similarity_NN.shape[0]
    check_shapes(similarity_NN=(similarity_NN, (n, n)))
    check_choice("shape", shape, SHAPES)
    if n < 2:
        return similarity_NN.new_zeros(n)
    itself_NN = torch.eye(n, dtype=torch.bool, device=similarity_NN.device)
    k_NN = similarity_NN.detach().masked_fill(itself_NN, 0.0)
    total_N = k_NN.sum(1)
    whole = diversity(total_N / (n - 1), shape).mean()
    left_NN = diversity((total_N[None, :] - k_NN) / max(1, n - 2), shape)  # row i: without sample i
    return whole - left_NN.masked_fill(itself_NN, 0.0).sum(1) / (n - 1)


def diversity(u: Tensor, shape: Shape) -> Tensor:
    """g(u) of each sample."""
    return -torch.log1p(u) if shape == "log" else 1.0 - u


@dataclass(frozen=True)
class MarginalDiversity(AdvantageRule):
    """SetPO: a sample's advantage, plus how much more diverse its group is with it than without it.

        A_b ← A_b + λ (D(S) - D(S \\ {b})),    S: samples of the problem

    with D of ``marginal_diversity``. Two samples are alike (k = 1) if they belong to the same class, else not (k = 0);
    classes come from ``model.solution_classes``, and a sample of none is like no other. Rare ways of solving gain,
    frequent ones lose; where all samples solve the problem one way nothing is added.

    Args:
        weight: λ. With n samples, λ = n · w and the linear shape the rule follows the gradient of w E[D].
        shape: ``log`` or ``linear``, see ``marginal_diversity``.
        among: S holds the ``correct`` samples alone, and wrong ones keep their advantage; or ``all`` samples.

    Raises:
        ValueError: ``weight`` is negative or not finite, or there is no such choice.

    Source: Li et al. 2026, arXiv:2602.01062 (SetPO), of which only the abstract could be read: a set-level objective on
    kernelised similarity, leave-one-out contributions, added to advantages. F(Q) = E_Q[g(E_Q[k(Y, Y')])] with bounded
    symmetric k and nonincreasing g, g(u) = -log(1 + u) and A + λ (D(S) - D(S \\ {i})) are those of public notes on the
    paper. That u leaves the sample itself out, λ and the equality of classes as k (the paper embeds texts) are ours; so
    is the default among correct samples.
    """

    weight: float = 1.0
    shape: Shape = "log"
    among: Literal["correct", "all"] = "correct"

    def __post_init__(self) -> None:
        check_choice("advantage.shape", self.shape, SHAPES)
        check_choice("advantage.among", self.among, AMONG)
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(f"advantage.weight is {self.weight}, expected a finite number of at least 0")

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"class_B"})

    def bonus(self, columns: Mapping[str, Tensor]) -> Tensor:
        """What the rule adds to each advantage, (B,)."""
        class_B, reward_B = classes_of(columns), columns["log_reward_B"].detach()
        bonus_B = torch.zeros_like(reward_B)
        for rows_N in groups(columns["group_B"]):
            if self.among == "correct":
                rows_N = rows_N[reward_B[rows_N] > 0.0]
            class_N = class_B[rows_N]
            same_NN = (class_N[:, None] == class_N[None, :]) & (class_N >= 0)
            bonus_B[rows_N] = self.weight * marginal_diversity(same_NN.to(bonus_B), self.shape)
        return bonus_B

    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """The objective's advantages and the bonus."""
        return plain(reward_B) + self.bonus(columns).to(reward_B)

    def teaching(self, columns: Mapping[str, Tensor]) -> Tensor:
        """True in groups whose rewards differ, and in those to which the rule adds something."""
        keep_B, bonus_B = super().teaching(columns).clone(), self.bonus(columns)
        for rows_N in groups(columns["group_B"]):
            keep_B[rows_N] |= bool((bonus_B[rows_N] != 0.0).any())
        return keep_B
