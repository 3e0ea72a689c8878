"""Sums of outer products of narrow numbers, which gradients of weights are."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 1024
"""Positions whose outer products are summed at a time: long narrow sums are slow, and rounded once a part."""
NARROW_SIDE = 128
"""Below this many columns, the processor is slow at tall results and fast at wide ones."""


def wider(dtype: torch.dtype) -> torch.dtype:
    """Float32, or float64 if that is the type."""
    return torch.promote_types(dtype, torch.float32)


def outer_sum(left_MA: Tensor, right_MB: Tensor) -> Tensor:
    """Σ_m left_m right_mᵀ, float32 or wider."""
    if right_MB.shape[1] < min(NARROW_SIDE, left_MA.shape[1]):
        return outer_sum(right_MB, left_MA).t()
    if left_MA.dtype == wider(left_MA.dtype):
        return left_MA.t() @ right_MB
    total = None
    for left, right in zip(left_MA.split(ROWS), right_MB.split(ROWS), strict=True):
        part = left.t() @ right
        total = part.float() if total is None else total.add_(part)
    assert total is not None
    return total
