"""Norms as the layers that read their outputs see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Norm:
    """y = (w + offset) · n(x) + b, with n(x) = x / sqrt(mean(x²) + ε), of x less its mean if ``centred``.

    Args:
        weight_I: w.
        epsilon: ε.
        offset: 1 if weights count from 1 (Gemma), else 0.
        bias_I: b; None if there is none.
        centred: n subtracts the mean of x first (LayerNorm).
    """

    weight_I: nn.Parameter
    epsilon: float
    offset: float = 0.0
    bias_I: nn.Parameter | None = None
    centred: bool = False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """w, and b if there is one."""
        return [self.weight_I] if self.bias_I is None else [self.weight_I, self.bias_I]

    def factor_I(self, like: Tensor) -> Tensor:
        """w + offset, in the type of ``like``."""
        weight_I = self.weight_I.to(like.dtype)
        return weight_I + self.offset if self.offset else weight_I

    def __call__(self, x: Tensor) -> Tensor:
        """The norm of the last dimension, in the type of x, with gradient."""
        factor_I = self.factor_I(x)
        if self.centred:
            bias_I = None if self.bias_I is None else self.bias_I.to(x.dtype)
            return functional.layer_norm(x, x.shape[-1:], factor_I, bias_I, self.epsilon)
        normed = functional.rms_norm(x, x.shape[-1:], factor_I, self.epsilon)
        return normed if self.bias_I is None else normed + self.bias_I.to(x.dtype)


def norm_of(module: Any, offset: float) -> Norm:
    """A norm module of transformers.

    Args:
        module: a LayerNorm, or a root mean square norm under whatever name.
        offset: added to its weights.
    """
    epsilon = module.eps if hasattr(module, "eps") else module.variance_epsilon
    centred = isinstance(module, nn.LayerNorm)
    return Norm(module.weight, epsilon, offset, getattr(module, "bias", None), centred)
