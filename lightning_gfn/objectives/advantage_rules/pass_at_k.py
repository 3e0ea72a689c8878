"""The largest reward of k samples as the objective (PKPO)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.base import AdvantageRule, PlainAdvantages, groups
from lightning_gfn.objectives.functional.checks import check_choice

PassAtKBaseline = Literal["none", "leave_one_out", "k_minus_one"]
BASELINES = ("none", "leave_one_out", "k_minus_one")


@lru_cache(maxsize=64)
def mean_max_with(num_samples: int, k: int) -> Tensor:
    """Weights (n, n) that take sorted rewards to the mean of max over all k-subsets that hold each of them.

        m_p = [ C(p, k-1) g_p + Σ_{q>p} C(q-1, k-2) g_q ] / C(n-1, k-1),    g_0 <= g_1 <= … <= g_{n-1}

    Args:
        num_samples: n.
        k: size of the subsets, 1 <= k <= n.
    """
    total = comb(num_samples - 1, k - 1)
    above = [comb(q - 1, k - 2) / total if k > 1 and q > 0 else 0.0 for q in range(num_samples)]
    rows = [
        [0.0] * p + [comb(p, k - 1) / total] + above[p + 1 :]  # the sample itself is the largest, or a later one is
        for p in range(num_samples)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@lru_cache(maxsize=64)
def mean_max_without(num_samples: int, k: int) -> Tensor:
    """Weights (n, n) that take sorted rewards to the mean of max over all k-subsets of the others.

        m_p = [ Σ_{q<p} C(q, k-1) g_q + Σ_{q>p} C(q-1, k-1) g_q ] / C(n-1, k)

    Args:
        num_samples: n.
        k: size of the subsets, 1 <= k <= n - 1.
    """
    total = comb(num_samples - 1, k)
    rows = [
        [comb(q - (q > p), k - 1) / total if q != p else 0.0 for q in range(num_samples)] for p in range(num_samples)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def pass_at_k_advantages(reward_N: Tensor, k: int, baseline: PassAtKBaseline) -> Tensor:
    """Weights of the scores of one problem's n samples in an unbiased gradient of E[max of k samples].

        ∇ E[max_{i<=k} r_i] = E[ (1/n) Σ_i A_i ∇ log q(z_i) ]
        A_i = k mean_{I ∋ i} max_I r                                                 baseline "none"
        A_i = k ( mean_{I ∋ i} max_I r - n/(n-1) mean_{I ∌ i} max_I r )              "leave_one_out"
        A_i = k mean_{I ∋ i} ( max_I r - max_{I \\ i} r )                             "k_minus_one"

    over the subsets I of k samples, in closed form from the sorted rewards. With rewards 0 and 1 the objective is
    pass@k. The factor n / (n - 1) of "leave_one_out" is the paper's; its advantages do not add up to 0.

    Args:
        reward_N: (n,) rewards of one problem's samples; constant.
        k: samples whose largest reward counts.
        baseline: what is subtracted; each leaves the expected gradient as it is.

    Returns:
        (n,), in the dtype of the rewards: n times the paper's s_i, since objectives take means over trajectories.

    Raises:
        ValueError: k or the number of samples is too small or too large for the baseline.

    Source: Walder and Karkhanis 2025 (PKPO), arXiv:2505.15201, equations 19, 29 and 33.
    """
    num_samples = reward_N.shape[0]
    rule = PassAtK(k, baseline=baseline)
    if num_samples < rule.min_samples:
        raise ValueError(
            f"advantage.k is {k}, but a problem has {num_samples} samples: with baseline {baseline} pass@k needs "
            f"model.num_samples of at least {rule.min_samples}"
        )
    sorted_N, order_N = reward_N.detach().double().cpu().sort()
    value_N = mean_max_with(num_samples, k) @ sorted_N
    if baseline == "leave_one_out":
        value_N -= num_samples / (num_samples - 1) * (mean_max_without(num_samples, k) @ sorted_N)
    elif baseline == "k_minus_one":
        value_N -= mean_max_without(num_samples, k - 1) @ sorted_N
    advantage_N = torch.empty_like(value_N).scatter(0, order_N, k * value_N)
    return advantage_N.to(reward_N)


@dataclass(frozen=True)
class PassAtK(AdvantageRule):
    """PKPO: the policy gradient of the largest reward of k samples (pass@k where rewards are 0 and 1), unbiased.

    Baseline and scale are the rule's own; set the objective's ``advantage_scale`` to none.

    Args:
        k: samples whose largest reward counts; at most ``model.num_samples``.
        baseline: subtract nothing (``none``), what k of the other samples reach (``leave_one_out``), or what the other
            k - 1 of each subset reach (``k_minus_one``, which the paper recommends; k >= 2).

    Source: that of ``pass_at_k_advantages``.
    """

    k: int = 4
    baseline: PassAtKBaseline = "k_minus_one"

    replaces_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("advantage.baseline", self.baseline, BASELINES)
        if self.k < 1:
            raise ValueError(f"advantage.k is {self.k}, expected at least 1")
        if self.k == 1 and self.baseline == "k_minus_one":
            raise ValueError("advantage.k is 1, which leaves no other sample: set advantage.baseline to leave_one_out")

    @property
    def min_samples(self) -> int:
        return max(2, self.k + (self.baseline == "leave_one_out"))

    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """Of each group by itself."""
        advantage_B = torch.zeros_like(reward_B)
        for rows_N in groups(columns["group_B"]):
            advantage_B[rows_N] = pass_at_k_advantages(reward_B[rows_N], self.k, self.baseline)
        return advantage_B
