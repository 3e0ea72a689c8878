"""Norms before and after the parts of a layer, by rows that stay in the cache, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.policies.fused.layers import Shape
from lightning_gfn.policies.fused.norms import Norm
from lightning_gfn.policies.numerics.outer_sum import wider
from lightning_gfn.policies.numerics.processor import cached_rows


def normalise(x_MI: Tensor, shape: Shape, out_MI: Tensor, factor_M1: Tensor) -> None:
    """Write x / sqrt(mean(x²) + ε) into ``out``, of x less its mean if norms are centred, and 1 / sqrt(…)."""
    if shape.centred:
        normed_MI, _, found_M1 = torch.native_layer_norm(x_MI, x_MI.shape[1:], None, None, shape.epsilon)
        out_MI.copy_(normed_MI)
        factor_M1.copy_(found_M1)
        return
    torch.linalg.vector_norm(x_MI, dim=1, keepdim=True, out=factor_M1)
    factor_M1.square_().div_(x_MI.shape[1]).add_(shape.epsilon).rsqrt_()
    out_MI.copy_(x_MI * factor_M1)


def add_and_normalise(x_MI: Tensor, update_MI: Tensor | None, shape: Shape, out_MI: Tensor) -> tuple[Tensor, Tensor]:
    """x + update, whose norm is written into ``out``.

    Returns:
        the sum (x itself without an update), and the factors of the norm (M, 1).
    """
    total_MI = x_MI if update_MI is None else torch.empty_like(x_MI)
    factor_M1 = x_MI.new_empty(x_MI.shape[0], 1)
    for rows in cached_rows(x_MI.shape[0], 16 * x_MI.shape[1], x_MI.device):
        if update_MI is not None:
            torch.add(x_MI[rows], update_MI[rows].to(x_MI.dtype), out=total_MI[rows])
        normalise(total_MI[rows], shape, out_MI[rows], factor_M1[rows])
    return total_MI, factor_M1


def add_norm_gradient(
    grad_MI: Tensor, normed_MI: Tensor, factor_M1: Tensor, further_MI: Tensor | None, *, centred: bool
) -> Tensor:
    """∂x = factor · (∂n - n · mean(n ∂n)), plus a further gradient, in the type of the factor.

    If norms are centred, ∂n counts less its mean.
    """
    out_MI = factor_M1.new_empty(normed_MI.shape)
    for rows in cached_rows(normed_MI.shape[0], 20 * normed_MI.shape[1], normed_MI.device):
        grad, normed = grad_MI[rows].to(factor_M1.dtype), normed_MI[rows].to(factor_M1.dtype)
        inner_M1 = torch.linalg.vecdot(grad, normed)[:, None].div_(-normed.shape[1])
        if centred:
            grad = grad - grad.mean(1, keepdim=True)
        grad = torch.addcmul(grad, normed, inner_M1)
        if further_MI is None:
            torch.mul(grad, factor_M1[rows], out=out_MI[rows])
        else:
            torch.addcmul(further_MI[rows], grad, factor_M1[rows], out=out_MI[rows])
    return out_MI


class PostNorm:
    """The norm of what a part of a layer adds to the residual stream, or nothing.

    Args:
        norm: None if the update is added as it is.
        shape: of the model.
    """

    def __init__(self, norm: Norm | None, shape: Shape) -> None:
        self.norm, self.shape = norm, shape

    def forward(self, update_MI: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | tuple[None, None]]:
        """The normalised update, and what ``backward`` needs."""
        if self.norm is None:
            return update_MI, (None, None)
        normed_MI = torch.empty_like(update_MI)
        _, factor_M1 = add_and_normalise(update_MI.to(wider(update_MI.dtype)), None, self.shape, normed_MI)
        return normed_MI * self.norm.factor_I(factor_M1), (normed_MI, factor_M1)

    def backward(
        self, grad_MI: Tensor, kept: tuple[Tensor | None, Tensor | None], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the update, in the type given, and of the norm's weight."""
        normed_MI, factor_M1 = kept
        if self.norm is None or normed_MI is None or factor_M1 is None:
            return grad_MI.to(dtype), None
        of_weight_I = (grad_MI * normed_MI).sum(0)
        grad_MI = grad_MI * self.norm.factor_I(grad_MI)
        return add_norm_gradient(grad_MI, normed_MI, factor_M1, None, centred=False).to(dtype), of_weight_I
