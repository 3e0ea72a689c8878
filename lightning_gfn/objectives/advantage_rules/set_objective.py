"""Sets of samples that are right and different as the objective (Poly-EPO)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import ClassVar

import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.base import AdvantageRule, PlainAdvantages, classes_of, groups
from lightning_gfn.objectives.functional.advantages import in_mixed_group
from lightning_gfn.objectives.functional.checks import check_shapes


def shares(sizes_C: list[int], taken: int, fixed: int, num_samples: int) -> Tensor:
    """Shares of the subsets that hold ``fixed`` given samples and whose others all come from a pool of each size, (C,).

    C(size - fixed, taken - fixed) / C(n - fixed, taken - fixed)
    """
    total = comb(num_samples - fixed, taken - fixed)
    return torch.tensor([comb(max(0, size - fixed), taken - fixed) / total for size in sizes_C], dtype=torch.float64)


def mean_set_scores(reward_N: Tensor, class_N: Tensor, set_size: int) -> Tensor:
    """Mean over all subsets G of m samples that hold a sample of the polychromic score, in closed form.

        f(G) = mean_G(r) · d(G) / m,    d(G): classes in G if there are two or more, else 0

    From the probabilities that a random G with samples i and j meets a class, and that it meets one class alone.

    Args:
        reward_N: (n,) rewards of one problem's samples; constant.
        class_N: (n,) int64, below 0 for samples of no class, which count as no class in d.
        set_size: m, 2 <= m <= n.

    Returns:
        (n,) float64.
    """
    n, m = reward_N.shape[0], set_size
    reward_N, class_N = reward_N.detach().double().cpu(), class_N.cpu()
    member_NC = (class_N[:, None] == class_N[class_N >= 0].unique()[None, :]).double()
    free_N1 = (class_N < 0).double()[:, None]
    size_C, num_free = [int(size) for size in member_NC.sum(0)], int(free_N1.sum())
    outside_NC, pool_NC = 1.0 - member_NC, member_NC + free_N1
    # Classes met: all but those that neither given sample belongs to and that all others miss.
    missed_C = [n - size for size in size_C]
    met_N = member_NC.shape[1] - outside_NC @ shares(missed_C, m, 1, n)
    met_NN = member_NC.shape[1] - (outside_NC * shares(missed_C, m, 2, n)) @ outside_NC.T
    # One class alone: everything from this class or from none, but not everything from none.
    pools_C = [size + num_free for size in size_C]
    none = shares([num_free], m, 1, n), shares([num_free], m, 2, n)
    alone_N = pool_NC @ shares(pools_C, m, 1, n) - (pool_NC * free_N1 * none[0]).sum(1)
    alone_NN = (pool_NC * shares(pools_C, m, 2, n)) @ pool_NC.T
    alone_NN -= none[1] * member_NC.shape[1] * (free_N1 @ free_N1.T)
    score_N, score_NN = met_N - alone_N, (met_NN - alone_NN).fill_diagonal_(0.0)
    return (reward_N * score_N + (m - 1) / (n - 1) * (score_NN @ reward_N)) / m**2


def set_advantages(reward_N: Tensor, class_N: Tensor, set_size: int) -> Tensor:
    """Weights of the scores of one problem's n samples in an unbiased gradient of E[f(m samples)].

        ∇ E[f] = E[ (1/n) Σ_i A_i ∇ log q(z_i) ],    A_i = n m / (n - m) ( mean_{G ∋ i} f(G) - mean_G f(G) )

    with the score f of ``mean_set_scores``.

    Args:
        reward_N: (n,) rewards of one problem's samples; constant.
        class_N: (n,) int64, below 0 for samples of no class.
        set_size: m.

    Returns:
        (n,), in the dtype of the rewards; they add up to 0.

    Raises:
        ValueError: there are too few samples.

    Source: that of ``SetObjective``.
    """
    n = reward_N.shape[0]
    check_shapes(class_N=(class_N, (n,)))
    if n <= set_size:
        raise ValueError(
            f"advantage.set_size is {set_size}, but a problem has {n} samples: raise model.num_samples above it"
        )
    mean_N = mean_set_scores(reward_N, class_N, set_size)
    return (n * set_size / (n - set_size) * (mean_N - mean_N.mean())).to(reward_N)


@dataclass(frozen=True)
class SetObjective(AdvantageRule):
    """Poly-EPO: sets of m samples that are right on average and belong to different classes, times each other.

        f(G) = mean reward of G · share of distinct classes in G, 0 where there is one class alone

    A sample's advantage is the mean score of the sets that hold it against that of all sets: also a wrong sample of a
    new class gains where others of its set are right. Baseline and scale are the rule's own; set the objective's
    ``advantage_scale`` to none. Classes come from ``model.solution_classes``; samples without one add no class.

    Args:
        set_size: m, at least 2 and below ``model.num_samples``.

    Source: Orney et al. 2026, arXiv:2604.17654, sections 3 and 4 (n = 8, m = 4), read in a public formalisation of the
    paper (definitions, proposition 3.1 and the algorithm; not the paper's own pages). The paper adds up the set
    advantages of all sets; the factor here makes the gradient that of E[f] itself instead of a multiple.
    """

    set_size: int = 4

    replaces_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.set_size < 2:
            raise ValueError(f"advantage.set_size is {self.set_size}, expected at least 2")

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"class_B"})

    @property
    def min_samples(self) -> int:
        return self.set_size + 1

    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """Of each group by itself."""
        advantage_B, class_B = torch.zeros_like(reward_B), classes_of(columns)
        for rows_N in groups(columns["group_B"]):
            advantage_B[rows_N] = set_advantages(reward_B[rows_N], class_B[rows_N], self.set_size)
        return advantage_B

    def teaching(self, columns: Mapping[str, Tensor]) -> Tensor:
        """True in groups whose rewards differ, and in those all right in different ways."""
        differs_B = in_mixed_group(classes_of(columns).to(torch.float64), columns["group_B"])
        return super().teaching(columns) | (differs_B & (columns["log_reward_B"] != 0.0))
