"""The clipped surrogate of policy-gradient objectives, and how a loss per action becomes one number."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.checks import check_choice
from lightning_gfn.objectives.functional.potentials import masked

Aggregation = Literal["sequence", "token", "constant", "sum"]
AGGREGATIONS = ("sequence", "token", "constant", "sum")


def check_clip(clip_low: float, clip_high: float) -> None:
    """Refuse clipping ranges that would exclude ratio 1 or admit negative ratios.

    Raises:
        ValueError: names the argument.
    """
    if not 0.0 <= clip_low <= 1.0:
        raise ValueError(f"clip_low is {clip_low}, expected 0 <= clip_low <= 1")
    if clip_high < 0.0:
        raise ValueError(f"clip_high is {clip_high}, expected clip_high >= 0")


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """Pessimistic surrogate of the policy gradient.

        l = -min(ρ A, clip(ρ, 1 - clip_low, 1 + clip_high) A),    ρ = exp(log_ratio)

    Args:
        log_ratio: log of the probability ratio ρ, nats; gradient flows.
        advantage: A, of the same shape, constant.
        clip_low: how far ρ may fall below 1.
        clip_high: how far it may rise above 1.

    Returns:
        l, and True where the clipping removes the gradient.

    Source: Schulman et al. 2017, arXiv:1707.06347, equation 7.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage
    return -torch.minimum(ratio * advantage, clipped), (clipped < ratio * advantage).detach()


def ratio_diagnostics(log_ratio_BT: Tensor, removed_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """``ratio_mean``, ``clip_fraction`` and ``approx_kl`` (ρ - 1 - log ρ, nats), means over actions."""
    log_ratio_BT = log_ratio_BT.detach()
    num_actions = mask_BT.sum().clamp_min(1).to(log_ratio_BT.dtype)
    ratio_BT = log_ratio_BT.exp()
    return {
        "ratio_mean": masked(ratio_BT, mask_BT).sum() / num_actions,
        "clip_fraction": (mask_BT & removed_BT).sum() / num_actions,
        "approx_kl": masked(ratio_BT - 1.0 - log_ratio_BT, mask_BT).sum() / num_actions,
    }


def aggregate(
    loss_BT: Tensor, mask_BT: Tensor, keep_B: Tensor, aggregation: Aggregation, max_length: Tensor | float | None = None
) -> tuple[Tensor, Tensor]:
    """Sum and weight of a loss per action, over the trajectories that are kept.

        sequence = mean_b (1 / n_b) Σ_t l_bt      token = Σ_bt l_bt / Σ_b n_b
        constant = mean_b (1 / L) Σ_t l_bt        sum   = mean_b Σ_t l_bt

    Args:
        loss_BT: (B, T) l; arbitrary where ``mask_BT`` is False.
        mask_BT: (B, T) bool, True on actions.
        keep_B: (B,) bool, False on trajectories that count for nothing.
        aggregation: which mean.
        max_length: L, for ``constant``.

    Raises:
        ValueError: if there is no such mean, or L is missing.
    """
    check_choice("aggregation", aggregation, AGGREGATIONS)
    kept_BT = mask_BT & keep_B.unsqueeze(1)
    loss_B = torch.where(kept_BT, loss_BT, 0.0).sum(1)
    if aggregation == "token":
        return loss_B.sum(), kept_BT.sum().to(loss_B.dtype)
    if aggregation == "sequence":
        loss_B = loss_B / mask_BT.sum(1).clamp_min(1).to(loss_B.dtype)
    elif aggregation == "constant":
        if max_length is None:
            raise ValueError("max_length is None, but aggregation 'constant' divides by it")
        loss_B = loss_B / max_length
    return loss_B.sum(), keep_B.sum().to(loss_B.dtype)
