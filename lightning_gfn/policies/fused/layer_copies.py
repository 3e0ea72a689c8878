"""Working copies of layers that follow the weights, shared by sampling and scoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lightning_gfn.policies.fused.families import stacks_of
from lightning_gfn.policies.fused.layers import DenseLayers
from lightning_gfn.policies.fused.seq2seq_layers import Seq2SeqLayers
from lightning_gfn.policies.models.weight_state import WeightState
from lightning_gfn.policies.numerics.processor import asked_dtype, cpu_has_bfloat16
from lightning_gfn.policies.numerics.wide_linear import NARROW


@dataclass
class _Copy:
    """Layers, and the state of the weights that they were copied from."""

    base: WeightState
    adapters: WeightState
    layers: DenseLayers | Seq2SeqLayers


class LayerCopies:
    """Working copies of a model, its reference and its teacher, one for each type that products are computed in."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, torch.dtype], _Copy] = {}

    def of(self, backbone: Any, dtype: torch.dtype) -> Any:
        """The up-to-date working copy; one that is out of date is not changed, since a graph may hold it.

        Args:
            backbone: of a model for which ``unsupported_reason`` is None.
            dtype: that products are computed in.

        Returns:
            ``DenseLayers``, or ``Seq2SeqLayers`` of a model with an encoder.
        """
        last = stacks_of(backbone)[-1]
        weights = list(backbone.named_parameters())
        adapted: list[Any] = [layer for layer in backbone.modules() if hasattr(layer, "get_delta_weight")]
        merged = tuple(tuple(layer.merged_adapters) for layer in adapted)
        scales = tuple(tuple(layer.scaling.items()) for layer in adapted)
        base = WeightState(dtype, (weight for name, weight in weights if "lora_" not in name), merged)
        adapters = WeightState(dtype, (weight for name, weight in weights if "lora_" in name), scales)
        key = (id(last), dtype)
        copy = self.known.get(key)
        make = DenseLayers if last is backbone else Seq2SeqLayers
        if copy is None or copy.layers.backbone is not last or not copy.base.equals(base):
            self.known.pop(key, None)
            copy = self.known[key] = _Copy(base, adapters, make(backbone, dtype))
        elif not copy.adapters.equals(adapters):
            copy.layers, copy.adapters = copy.layers.with_present_adapters(), adapters
        return copy.layers


def compute_dtype(model: Any) -> torch.dtype:
    """What products are computed in: as the surrounding autocast says, else as the weights are.

    Float32 on processors without bfloat16 arithmetic.

    Args:
        model: a model, or one of its stacks.
    """
    dtype = asked_dtype(model.device, model.dtype)
    return torch.float32 if dtype in NARROW and model.device.type == "cpu" and not cpu_has_bfloat16() else dtype
