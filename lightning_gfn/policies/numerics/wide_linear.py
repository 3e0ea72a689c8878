"""Linear layers of narrow weights with float32 results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.policies.numerics.outer_sum import outer_sum
from lightning_gfn.policies.numerics.processor import multiplies_narrow, narrow_products

NARROW = (torch.bfloat16, torch.float16)
BLOCK = 2**24
"""Weights that are held in float32 at a time, where the device cannot multiply narrow numbers into wide ones."""


def row_blocks(weight_OI: Tensor) -> Iterator[slice]:
    """Rows of a matrix in parts of at most ``BLOCK`` values."""
    rows = max(1, BLOCK // weight_OI.shape[1])
    for start in range(0, weight_OI.shape[0], rows):
        yield slice(start, start + rows)


def wide_product(x_MI: Tensor, weight_OI: Tensor, dtype: torch.dtype) -> Tensor:
    """x Wᵀ of numbers as narrow as ``dtype``, added up in float32."""
    if x_MI.is_cuda and x_MI.dtype == weight_OI.dtype and x_MI.dtype in NARROW:
        return torch.mm(x_MI, weight_OI.t(), out_dtype=torch.float32)
    x_MI = x_MI.float()
    with narrow_products(dtype, x_MI.device):
        if weight_OI.dtype == torch.float32:
            return x_MI @ weight_OI.t()
        out_MO = x_MI.new_empty(x_MI.shape[0], weight_OI.shape[0])
        for rows in row_blocks(weight_OI):
            torch.mm(x_MI, weight_OI[rows].float().t(), out=out_MO[:, rows])
    return out_MO


def input_gradient(grad_MO: Tensor, weight_OI: Tensor) -> Tensor:
    """∂x (M, I) = ∂y W, added up in float32."""
    if weight_OI.dtype == grad_MO.dtype:
        return grad_MO @ weight_OI
    grad_x = grad_MO.new_zeros(grad_MO.shape[0], weight_OI.shape[1], dtype=torch.float32)
    for rows in row_blocks(weight_OI):
        grad_x.addmm_(grad_MO[:, rows], weight_OI[rows].float())
    return grad_x


class _WideLinear(torch.autograd.Function):
    """x Wᵀ in float32; the weights as they are, and no wide copy of them, are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x_MI: Tensor, weight_OI: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x_MI, weight_OI)
        ctx.dtype = dtype
        return wide_product(x_MI, weight_OI, dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_MO,) = grad_outputs
        x_MI, weight_OI = ctx.saved_tensors
        grad_x, grad_weight = None, None
        device = grad_MO.device
        if multiplies_narrow(ctx.dtype, device):  # unlike logits, gradients bear factors that are rounded
            grad_MO = grad_MO.to(ctx.dtype)
        with torch.autocast(device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                weight = weight_OI if weight_OI.dtype in NARROW else weight_OI.to(grad_MO.dtype)
                grad_x = input_gradient(grad_MO, weight).to(x_MI.dtype)
            if ctx.needs_input_grad[1]:
                grad_weight = outer_sum(grad_MO, x_MI.to(grad_MO.dtype)).to(weight_OI.dtype)
        return grad_x, grad_weight, None


def wide_linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, dtype: torch.dtype | None = None) -> Tensor:
    """x Wᵀ + b in float32, without a float32 copy of narrow weights, under autocast too.

    Args:
        x: (…, I), float32 or narrower.
        weight_OI: float32 or narrower.
        bias_O: the bias, if there is one.
        dtype: a narrow type to multiply in, if the processor is faster at it; None for that of the weights.

    Returns:
        (…, O), float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        narrow = dtype if dtype is not None else weight_OI.dtype
        out = _WideLinear.apply(x.flatten(0, -2), weight_OI, narrow).unflatten(0, x.shape[:-1])
        return out if bias_O is None else out + bias_O.float()
