"""Rewards, advantages and returns per action, for objectives with a learned value."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.checks import batch_and_length, check_mask, check_shapes
from lightning_gfn.objectives.functional.potentials import masked


def action_rewards(log_reward_B: Tensor, penalty_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Reward of each action: the trajectory's own at its last action, less a penalty at each.

        r_t = 1[t is the last action] r - penalty_t

    Args:
        log_reward_B: (B,) r, reward of the trajectory.
        penalty_BT: (B, T) in units of the reward.
        mask_BT: (B, T) bool, True on actions, padded on the right.

    Returns:
        (B, T), 0 beyond the last action.

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.

    Source: Ziegler et al. 2019, arXiv:1909.08593, equation 2.
    """
    B, T = batch_and_length("mask_BT", mask_BT)
    check_shapes(log_reward_B=(log_reward_B, (B,)), penalty_BT=(penalty_BT, (B, T)))
    check_mask("mask_BT", mask_BT)
    last_BT = mask_BT & (mask_BT.cumsum(1) == mask_BT.sum(1, keepdim=True))
    return torch.where(last_BT, log_reward_B.unsqueeze(1), 0.0) - masked(penalty_BT, mask_BT)


def generalised_advantages(
    reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and the returns that values regress on.

        δ_t = r_t + γ V_{t+1} - V_t,    A_t = δ_t + γ λ A_{t+1},    return_t = A_t + V_t

    with V and A zero after the last action.

    Args:
        reward_BT: (B, T) reward of each action.
        value_BT: (B, T) value of the prefix at which each action is taken, in units of the reward; constant.
        mask_BT: (B, T) bool, True on actions, padded on the right.
        gamma: discount of a later reward for each action between.
        lam: 0 gives the one-step error δ, 1 the discounted return less the value.

    Returns:
        Advantages and returns, (B, T), 0 beyond the last action, without gradient.

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Schulman et al. 2016, arXiv:1506.02438, equations 11 to 16.
    """
    for name, value in (("gamma", gamma), ("lam", lam)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}, expected 0 <= {name} <= 1")
    B, T = batch_and_length("reward_BT", reward_BT)
    check_shapes(value_BT=(value_BT, (B, T)), mask_BT=(mask_BT, (B, T)))
    check_mask("mask_BT", mask_BT)
    reward_BT, value_BT = masked(reward_BT.detach(), mask_BT), masked(value_BT.detach(), mask_BT)
    advantages: list[Tensor] = []
    next_value_B = next_advantage_B = torch.zeros_like(value_BT[:, 0])
    for t in reversed(range(T)):
        error_B = reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
        next_advantage_B = error_B + gamma * lam * next_advantage_B
        next_value_B = value_BT[:, t]
        advantages.append(next_advantage_B)
    advantage_BT = torch.stack(advantages[::-1], dim=1)
    return advantage_BT, advantage_BT + value_BT


def whitened(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Values shifted and scaled to mean 0 and variance 1 over the True positions, 0 elsewhere; (B, T).

    The variance is the unbiased one; 1e-8 is added to it.
    """
    count = mask_BT.sum().to(values_BT.dtype)
    centred_BT = values_BT - masked(values_BT, mask_BT).sum() / count.clamp_min(1.0)
    variance = masked(centred_BT.square(), mask_BT).sum() / (count - 1.0).clamp_min(1.0)
    return masked(centred_BT * torch.rsqrt(variance + 1e-8), mask_BT)
