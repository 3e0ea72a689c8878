"""Working copies of the layers of T5 models for teacher-forced passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.policies.fused.layers import DenseLayers, LayerWeights
from lightning_gfn.policies.fused.norms import norm_of
from lightning_gfn.policies.fused.working_linear import Source, WorkingLinear
from lightning_gfn.policies.numerics.outer_sum import wider


@dataclass(frozen=True)
class CrossWeights:
    """Working copies of the cross-attention of one decoder layer.

    Args:
        query: projection of normalised inputs.
        key_value: projections of the encoder's states, side by side.
        out: output projection.
    """

    query: WorkingLinear
    key_value: WorkingLinear
    out: WorkingLinear

    def linears(self) -> tuple[WorkingLinear, WorkingLinear, WorkingLinear]:
        """All three."""
        return self.query, self.key_value, self.out


class Seq2SeqLayers:
    """Working copies of all layers of one model.

    Args:
        model: encoder and decoder, for which ``unsupported_reason`` is None.
        dtype: that products are computed in.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.backbone, self.dtype, self.start_id = model.decoder, dtype, int(model.start_id)
        self.encoder, self.decoder = DenseLayers(model.encoder, dtype), DenseLayers(model.decoder, dtype)
        self.crosses = [self.copy_cross(block.layer[1]) for block in model.decoder.block]

    def copy_cross(self, layer: Any) -> CrossWeights:
        """Working copies of one cross-attention."""
        attention = layer.EncDecAttention
        query, key, value, out = (Source(getattr(attention, name)) for name in "qkvo")
        return CrossWeights(
            query=WorkingLinear([query], norm_of(layer.layer_norm, 0.0), self.dtype),
            key_value=WorkingLinear([key, value], None, self.dtype),
            out=WorkingLinear([out], None, self.dtype),
        )

    def with_present_adapters(self) -> Seq2SeqLayers:
        """The same layers with adapters as they are now; all other weights are those that were copied before."""
        other = object.__new__(Seq2SeqLayers)
        other.__dict__.update(self.__dict__)
        other.encoder, other.decoder = self.encoder.with_present_adapters(), self.decoder.with_present_adapters()
        other.crosses = [
            CrossWeights(*(linear.with_present_adapters() for linear in cross.linears())) for cross in self.crosses
        ]
        return other

    def active(self) -> tuple[list[LayerWeights], list[tuple[LayerWeights, CrossWeights]]]:
        """Layers of encoder and decoder with the adapters that are active: all, or all but the trained ones."""
        linears = [linear for cross in self.crosses for linear in cross.linears()]
        crosses = self.crosses
        if any(source.active() != source.adapters() for linear in linears for source in linear.sources):
            crosses = [CrossWeights(*(linear.without_trained() for linear in cross.linears())) for cross in crosses]
        return self.encoder.active(), list(zip(self.decoder.active(), crosses, strict=True))


def position_bias(layers: DenseLayers, length: int) -> Tensor:
    """What positions add to the attention of L tokens to each other, (heads, L, L), with gradient."""
    attention = layers.backbone.block[0].layer[0].SelfAttention
    return attention.compute_bias(length, length)[0].to(wider(layers.dtype))
