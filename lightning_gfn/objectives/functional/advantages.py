"""Statistics within groups of trajectories of one problem, group-relative advantages, and rewards of length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.checks import check_choice, check_shapes

AdvantageScale = Literal["std", "mean", "none"]
Baseline = Literal["group", "leave_one_out"]
SCALES = ("std", "mean", "none")


def group_mean(values_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each trajectory's group, and the size of that group.

    Args:
        values_B: (B,); gradient flows.
        group_B: (B,) int64, arbitrary ids.

    Returns:
        (B,) means and (B,) sizes, in the dtype of ``values_B``.
    """
    ids, index_B = torch.unique(group_B, return_inverse=True)
    zeros_G = values_B.new_zeros(ids.shape[0])
    size_G = zeros_G.index_add(0, index_B, torch.ones_like(values_B))
    sum_G = zeros_G.index_add(0, index_B, values_B)
    return (sum_G / size_G)[index_B], size_G[index_B]


def group_advantages(
    reward_B: Tensor,
    group_B: Tensor,
    *,
    scale: AdvantageScale = "std",
    baseline: Baseline = "group",
    epsilon: float = 1e-4,
) -> Tensor:
    """Reward relative to the other trajectories of its problem.

        A_b = r_b - mean_group(r)                           baseline "group", scale "none"
        A_b = r_b - mean over the others of its group       baseline "leave_one_out", scale "none"
        A_b / (std_group(r) + ε)                            scale "std", with the unbiased standard deviation
        A_b / mean_group(r), 0 where the mean is 0          scale "mean", baseline "group" (MaxRL)

    With rewards 0 and 1 and n samples of a problem that is solved with probability p, the scale "mean" makes the policy
    gradient an unbiased one of Σ_k<n -(1 - p)^k / k, the first terms of log p.

    Args:
        reward_B: (B,) scalar rewards; constant; at least 0 for scale "mean".
        group_B: (B,) int64, arbitrary ids; a group of one has advantage 0.
        scale: divide by the group's standard deviation, by its mean reward, or not (Dr. GRPO, RLOO).
        baseline: mean of the whole group, or of the others (RLOO), which is n / (n - 1) times as far from the reward.
        epsilon: added to the standard deviation, in units of the reward.

    Returns:
        (B,) advantages, without gradient; exactly 0 in a group of equal rewards.

    Raises:
        ValueError: names the argument whose shape or value is wrong.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1; without scale Liu et al. 2025, arXiv:2503.20783; leave one
    out Ahmadian et al. 2024, arXiv:2402.14740, section 4; by the mean Tajwar et al. 2026 (MaxRL), arXiv:2602.02710,
    section 4, as the paper does it in practice: without a success the control variate is dropped as well, which is
    what turns its objective of n terms into one of n - 1 (enumerated in the tests).
    """
    check_choice("scale", scale, SCALES)
    check_choice("baseline", baseline, ("group", "leave_one_out"))
    check_mean_scale(scale, baseline)
    check_shapes(reward_B=(reward_B, (reward_B.numel(),)), group_B=(group_B, tuple(reward_B.shape)))
    reward_B = reward_B.detach()
    mean_B, size_B = group_mean(reward_B, group_B)
    # The mean of equal numbers may round to another one; over ε that would pass for an advantage.
    centred_B = torch.where(in_mixed_group(reward_B, group_B), reward_B - mean_B, 0.0)
    advantage_B = centred_B if baseline == "group" else centred_B * size_B / (size_B - 1.0).clamp_min(1.0)
    if scale == "none":
        return advantage_B
    if scale == "mean":
        if bool((reward_B < 0.0).any()):
            raise ValueError(
                "advantage_scale is mean, which divides by the mean reward of a problem, but some rewards are below 0: "
                "use a reward of 0 and 1 (AnswerMatch), or the scale std or none"
            )
        return torch.where(mean_B > 0.0, advantage_B / torch.where(mean_B > 0.0, mean_B, 1.0), 0.0)
    population_B, _ = group_mean(centred_B.square(), group_B)
    unbiased_B = population_B * size_B / (size_B - 1.0).clamp_min(1.0)
    return advantage_B / (unbiased_B.sqrt() + epsilon)


def check_mean_scale(scale: AdvantageScale, baseline: Baseline) -> None:
    """Refuse another baseline than MaxRL's where the mean reward is the scale.

    Raises:
        ValueError: names both settings.
    """
    if scale == "mean" and baseline != "group":
        raise ValueError(
            f"advantage_scale is mean (MaxRL), whose baseline is the mean of the whole group, but baseline is "
            f"{baseline}: set baseline to group, or advantage_scale to std or none"
        )


def in_mixed_group(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """bool (B,), True where the trajectories of the same problem have different rewards; others teach nothing.

    Source: Yu et al. 2025 (DAPO), arXiv:2503.14476, section 3.2.
    """
    ids, index_B = torch.unique(group_B, return_inverse=True)
    bounds_2G = [
        reward_B.new_zeros(len(ids)).scatter_reduce(0, index_B, reward_B, reduce=reduce, include_self=False)
        for reduce in ("amin", "amax")
    ]
    return (bounds_2G[0] != bounds_2G[1])[index_B]


def overlong_penalty(length_B: Tensor, max_length: Tensor | int, share: float) -> Tensor:
    """A reward between -1 and 0 that makes the last tokens before the maximum length costly.

        P(n) = 0                                if n <= L - c,    c = share · L
        P(n) = ((L - c) - n) / c                if L - c < n <= L

    Args:
        length_B: (B,) n, action tokens.
        max_length: L, the most tokens that a trajectory may have.
        share: c / L, above 0 and at most 1; 0.2 in the paper.

    Returns:
        (B,) in units of the reward.

    Raises:
        ValueError: if the share is out of range.

    Source: Yu et al. 2025 (DAPO), arXiv:2503.14476, equation 13.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share}, expected 0 < share <= 1")
    buffer = share * max_length
    return ((max_length - buffer - length_B) / buffer).clamp(-1.0, 0.0)
