"""Linear layers of narrow weights with float32 results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

NARROW = (torch.bfloat16, torch.float16)
BLOCK = 2**24
"""Weights that are held in float32 at a time, where the device cannot multiply narrow numbers into wide ones."""


def row_blocks(weight_OI: Tensor) -> Iterator[slice]:
    """Rows of a matrix in parts of at most ``BLOCK`` values."""
    rows = max(1, BLOCK // weight_OI.shape[1])
    for start in range(0, weight_OI.shape[0], rows):
        yield slice(start, start + rows)


def wide_product(x_MI: Tensor, weight_OI: Tensor) -> Tensor:
    """x Wᵀ of narrow numbers, multiplied and added up in float32."""
    if x_MI.is_cuda and x_MI.dtype == weight_OI.dtype and x_MI.dtype in NARROW:
        return torch.mm(x_MI, weight_OI.t(), out_dtype=torch.float32)
    x_MI = x_MI.float()
    out_MO = x_MI.new_empty(x_MI.shape[0], weight_OI.shape[0])
    for rows in row_blocks(weight_OI):
        torch.mm(x_MI, weight_OI[rows].float().t(), out=out_MO[:, rows])
    return out_MO


class _WideLinear(torch.autograd.Function):
    """x Wᵀ in float32; the narrow weights are all that is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_MI, weight_OI)
        return wide_product(x_MI, weight_OI)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, Tensor | None]:
        (grad_MO,) = grad_outputs
        x_MI, weight_OI = ctx.saved_tensors
        grad_x, grad_weight = None, None
        with torch.autocast(grad_MO.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                grad_x = x_MI.new_zeros(x_MI.shape, dtype=torch.float32)
                for rows in row_blocks(weight_OI):
                    grad_x.addmm_(grad_MO[:, rows], weight_OI[rows].float())
                grad_x = grad_x.to(x_MI.dtype)
            if ctx.needs_input_grad[1]:
                grad_weight = (grad_MO.t() @ x_MI.float()).to(weight_OI.dtype)
        return grad_x, grad_weight


def wide_linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """x Wᵀ + b in float32, without a float32 copy of all weights, under autocast too.

    Args:
        x: (…, I), float32 or narrower.
        weight_OI: float32 or narrower.
        bias_O: the bias, if there is one.

    Returns:
        (…, O), float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        out = _WideLinear.apply(x.flatten(0, -2), weight_OI).unflatten(0, x.shape[:-1])
        return out if bias_O is None else out + bias_O.float()
