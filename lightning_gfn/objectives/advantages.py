"""Statistics within groups of trajectories of one problem, and the group-relative advantage."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives._checks import check_choice, check_shapes

AdvantageScale = Literal["std", "none"]


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
    reward_B: Tensor, group_B: Tensor, *, scale: AdvantageScale = "std", epsilon: float = 1e-4
) -> Tensor:
    """Reward relative to the other trajectories of its problem.

        A_b = r_b - mean_group(r)                  scale "none"
        A_b = (r_b - mean_group(r)) / (std_group(r) + ε)    scale "std", with the unbiased standard deviation

    Args:
        reward_B: (B,) scalar rewards; constant.
        group_B: (B,) int64, arbitrary ids; a group of one has advantage 0.
        scale: divide by the group's standard deviation, or not (Dr. GRPO).
        epsilon: added to the standard deviation, in units of the reward.

    Returns:
        (B,) advantages, without gradient.

    Raises:
        ValueError: names the argument whose shape or value is wrong.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1; without scale Liu et al. 2025, arXiv:2503.20783.
    """
    check_choice("scale", scale, ("std", "none"))
    check_shapes(reward_B=(reward_B, (reward_B.numel(),)), group_B=(group_B, tuple(reward_B.shape)))
    reward_B = reward_B.detach()
    mean_B, size_B = group_mean(reward_B, group_B)
    centred_B = reward_B - mean_B
    if scale == "none":
        return centred_B
    population_B, _ = group_mean(centred_B.square(), group_B)
    unbiased_B = population_B * size_B / (size_B - 1.0).clamp_min(1.0)
    return centred_B / (unbiased_B.sqrt() + epsilon)
