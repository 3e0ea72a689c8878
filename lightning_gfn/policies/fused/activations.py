"""Activations of feed-forward networks, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

ATEN = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """An activation.

    Args:
        forward: f(x).
        forward_: f(x) in place; returns x.
        backward: of the gradient of f(x), and of x, the gradient of x.
    """

    forward: Callable[[Tensor], Tensor]
    forward_: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _gelu(approximate: str) -> Activation:
    return Activation(
        partial(ATEN.gelu, approximate=approximate),
        partial(ATEN.gelu_, approximate=approximate),
        partial(ATEN.gelu_backward, approximate=approximate),
    )


ACTIVATIONS = {
    "silu": Activation(ATEN.silu, ATEN.silu_, ATEN.silu_backward),
    "relu": Activation(ATEN.relu, ATEN.relu_, lambda grad, x: ATEN.threshold_backward(grad, x, 0)),
    "gelu": _gelu("none"),
    "gelu_new": _gelu("tanh"),
    "gelu_pytorch_tanh": _gelu("tanh"),
}
"""By the names that configurations of transformers give them."""
