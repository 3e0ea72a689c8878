"""What tells that a working copy of a model's weights is out of date."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import register_optimizer_step_post_hook

PROBES = 16
"""Values of each parameter that are compared; a write through ``.data`` is seen if it changes one of them."""


def count_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Raise the version of every parameter that an optimiser holds: fused optimisers write without a trace."""
    increment_version([parameter for group in optimizer.param_groups for parameter in group["params"]])


register_optimizer_step_post_hook(count_step)


class WeightState:
    """The state that weights are in, by what is cheap to read.

    Parameters count by where they lie, by their versions (in-place operations, loading and, through a hook on all
    optimisers, every optimiser step raise them), and by a few values of each, since writes through ``.data`` leave no
    version. A storage is the same when FSDP gives it new memory.

    Args:
        dtype: of the working copy.
        parameters: the weights.
        further: what else the working copy follows from, such as ``adapter_state``.
    """

    def __init__(self, dtype: torch.dtype, parameters: Iterable[Tensor], further: tuple[Any, ...] = ()) -> None:
        weights = list(parameters)
        places = tuple((p.untyped_storage()._cdata, p.storage_offset(), p._version) for p in weights)
        self.key = (dtype, places, further)
        self.probes = torch.cat([probe(weight) for weight in weights]) if weights else torch.zeros(0)

    def equals(self, other: WeightState) -> bool:
        """True if nothing tells the two states apart."""
        return self.key == other.key and torch.equal(self.probes, other.probes)


def probe(parameter: Tensor) -> Tensor:
    """A few values of a parameter, evenly spaced, float32."""
    flat = parameter.detach().reshape(-1)
    return flat[:: max(1, -(-flat.numel() // PROBES))].float()


def adapter_state(model: nn.Module) -> tuple[tuple[Any, ...], ...]:
    """Of each adapted layer: whether adapters are off, which are active, which are merged, and their scales."""
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "get_delta_weight")]
    return tuple(
        (layer.disable_adapters, *layer.active_adapters, *layer.merged_adapters, *layer.scaling.items())
        for layer in layers
    )
