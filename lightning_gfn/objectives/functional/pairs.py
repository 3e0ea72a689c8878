"""Sums of squared differences over pairs of positions, in time linear in the length."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.objectives.functional.advantages import group_mean
from lightning_gfn.objectives.functional.checks import Reduction

BLOCK = 64


def decayed_cumsum(values: Tensor, decay: float) -> Tensor:
    """First-order recurrence along the last axis.

        x_j = decay · x_{j-1} + values_j,    x_{-1} = 0

    Blocks of 64 positions are scanned by doubling, and the ends of the blocks by the same function with the decay of a
    whole block, so the work is linear in the length and no Python loop runs over positions. Only elementwise operations
    are used: autocast and TF32 would round a matrix product to 8 or 10 bits.

    Args:
        values: (..., S).
        decay: in (0, 1].

    Returns:
        Same shape as ``values``.
    """
    length = values.shape[-1]
    if length <= BLOCK:
        scanned, shift = values, 1
        while shift < length:
            scanned = scanned + decay**shift * functional.pad(scanned[..., :-shift], (shift, 0))
            shift *= 2
        return scanned
    num_blocks = -(-length // BLOCK)
    blocks = functional.pad(values, (0, num_blocks * BLOCK - length)).unflatten(-1, (num_blocks, BLOCK))
    within = decayed_cumsum(blocks, decay)
    ends = decayed_cumsum(within[..., -1], decay**BLOCK)
    before = functional.pad(ends[..., :-1], (1, 0)).unsqueeze(-1)
    powers = decay ** torch.arange(1, BLOCK + 1, device=values.device, dtype=values.dtype)
    return (within + before * powers).flatten(-2)[..., :length]


def fill_forward(values_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """Replace what the mask leaves out by the nearest value before it, and by 0 where there is none."""
    positions_S = torch.arange(values_BS.shape[1], device=values_BS.device)
    last_BS = torch.where(mask_BS, positions_S, 0).cummax(1).values
    return torch.where(mask_BS, values_BS, 0.0).gather(1, last_BS)


def increments(values_BS: Tensor, mask_BS: Tensor) -> Tensor:
    """Difference of each kept value to the kept one before it; 0 where nothing is kept, or nothing before."""
    filled_BS = fill_forward(values_BS, mask_BS)
    started_BS = functional.pad(mask_BS.cummax(1).values[:, :-1], (1, 0))
    return torch.where(started_BS, filled_BS - functional.pad(filled_BS[:, :-1], (1, 0)), 0.0)


def pair_sums(values_BS: Tensor, mask_BS: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Weighted sum of squared differences over all pairs of kept positions, exactly and in linear time.

        S = Σ_{i<j} λ^(j-i-1) (g_j - g_i)²,    W = Σ_{i<j} λ^(j-i-1)

    With m = 1 on kept positions and 0 elsewhere, λ = 1 has the closed form S = (Σ m) Σ m_i (g_i - mean g)². For λ < 1,
    with d_j = g_j - g_{j-1} (left-out positions repeat the value before them),

        U_j = λ U_{j-1} + m_{j-1}                              sums of the weights λ^(j-i-1) over kept i < j
        P_j = λ P_{j-1} + d_j U_j                              weighted sums of g_j - g_i
        Q_j = λ Q_{j-1} + 2 λ d_j P_{j-1} + d_j² U_j           weighted sums of (g_j - g_i)²

    and S = Σ m_j Q_j, W = Σ m_j U_j. Only increments of g enter, so a large common value of g costs no precision.

    Args:
        values_BS: g, nats.
        mask_BS: bool, True on positions that take part.
        lam: λ in (0, 1].

    Returns:
        S (B,), with gradient, and W (B,), without.
    """
    kept_BS = mask_BS.to(values_BS.dtype)
    if lam == 1.0:
        num_B = kept_BS.sum(1)
        mean_B = torch.where(mask_BS, values_BS, 0.0).sum(1) / num_B.clamp_min(1.0)
        centred_BS = torch.where(mask_BS, values_BS - mean_B.unsqueeze(1), 0.0)
        return num_B * centred_BS.square().sum(1), num_B * (num_B - 1.0) / 2.0
    difference_BS = increments(values_BS, mask_BS)
    weight_BS = functional.pad(decayed_cumsum(kept_BS, lam)[:, :-1], (1, 0))
    first_BS = decayed_cumsum(difference_BS * weight_BS, lam)
    cross_BS = 2.0 * lam * difference_BS * functional.pad(first_BS[:, :-1], (1, 0))
    second_BS = decayed_cumsum(cross_BS + difference_BS.square() * weight_BS, lam)
    return torch.where(mask_BS, second_BS, 0.0).sum(1), (kept_BS * weight_BS).sum(1)


def group_pair_sums(values_BS: Tensor, mask_BS: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of squared differences over all pairs of kept positions of a group of rows, dealt out over these rows.

        S = Σ_{a<b} (g_a - g_b)² = M Σ_a (g_a - mean g)²,    W = M (M - 1) / 2        a, b: the M positions of a group

    Args:
        values_BS: g, nats.
        mask_BS: bool, True on positions that take part.
        group_B: int64, the group of each row; arbitrary ids.

    Returns:
        What each row adds to the S (B,), with gradient, and to the W (B,) of its group.
    """
    kept_BS = mask_BS.to(values_BS.dtype)
    num_B = kept_BS.sum(1)
    mean_num_B, size_B = group_mean(num_B, group_B)
    total_B = mean_num_B * size_B
    mean_sum_B, _ = group_mean(torch.where(mask_BS, values_BS, 0.0).sum(1), group_B)
    mean_B = mean_sum_B * size_B / total_B.clamp_min(1.0)
    centred_BS = torch.where(mask_BS, values_BS - mean_B.unsqueeze(1), 0.0)
    return total_B * centred_BS.square().sum(1), num_B * (total_B - 1.0).clamp_min(0.0) / 2.0


def consecutive_sums(values_BS: Tensor, mask_BS: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of squared differences between each kept position and the kept one before it, and the number of such pairs.

    Args:
        values_BS: g, nats.
        mask_BS: bool, True on positions that take part.

    Returns:
        Sum (B,), with gradient, and number (B,).
    """
    squared_B = increments(values_BS, mask_BS).square().sum(1)
    return squared_B, (mask_BS.sum(1) - 1).clamp_min(0).to(squared_B.dtype)


def reduce_pairs(sum_B: Tensor, weight_B: Tensor, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """Total and normaliser: the weight of all pairs of the batch (mean) or the number of trajectories (sum)."""
    weight = weight_B.sum() if reduction == "mean" else weight_B.new_tensor(float(weight_B.shape[0]))
    return sum_B.sum(), weight.detach()
