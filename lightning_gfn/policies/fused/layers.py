"""Working copies of the layers of dense models, for decoding and for teacher-forced passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_gfn.policies.fused.activations import ACTIVATIONS, Activation
from lightning_gfn.policies.fused.families import family_of, part
from lightning_gfn.policies.fused.norms import Norm, norm_of
from lightning_gfn.policies.fused.working_linear import Source, WorkingLinear, interleave_halves
from lightning_gfn.policies.numerics.outer_sum import wider


@dataclass(frozen=True)
class AttentionForm:
    """How one layer attends.

    Args:
        scale: factor on inner products.
        cap: c of c · tanh(score / c); None for no bound.
        window: a token sees so many tokens at most, itself among them; None for all before it.
        rotation: name of the rotation of queries and keys; None if there is no other.
    """

    scale: float
    cap: float | None = None
    window: int | None = None
    rotation: str | None = None


@dataclass
class LayerWeights:
    """Working copies of one layer.

    Args:
        form: of its attention.
        qkv: queries, keys and values, of normalised inputs; heads that are rotated are interleaved.
        out: output projection of attention.
        up: gate and up projections, or the up projection, of normalised inputs.
        down: down projection.
        qk_norms: norms of each query and key head, before rotation; None if there are none.
        post_norms: norms of what attention and feed-forward network add to the residual stream, or None.
    """

    form: AttentionForm
    qkv: WorkingLinear
    out: WorkingLinear
    up: WorkingLinear
    down: WorkingLinear
    qk_norms: tuple[Norm, Norm] | None
    post_norms: tuple[Norm | None, Norm | None]

    def linears(self) -> tuple[WorkingLinear, WorkingLinear, WorkingLinear, WorkingLinear]:
        """All four."""
        return self.qkv, self.out, self.up, self.down

    def with_linears(self, change: Callable[[WorkingLinear], WorkingLinear]) -> LayerWeights:
        """The same layer with other projections."""
        qkv, out, up, down = map(change, self.linears())
        return replace(self, qkv=qkv, out=out, up=up, down=down)

    def with_present_adapters(self) -> LayerWeights:
        """The same layer with adapters as they are now."""
        return self.with_linears(WorkingLinear.with_present_adapters)

    def without_trained(self) -> LayerWeights:
        """The same layer without its trained adapters."""
        return self.with_linears(WorkingLinear.without_trained)


@dataclass(frozen=True)
class Shape:
    """Heads and constants of a model.

    Args:
        num_heads: of queries.
        num_kv_heads: of keys and values.
        head_width: D.
        epsilon: added to mean squares.
        centred: norms subtract means.
        activation_name: of the feed-forward network, one of ``ACTIVATIONS``.
        is_gated: the network multiplies act(gate) and up.
    """

    num_heads: int
    num_kv_heads: int
    head_width: int
    epsilon: float
    centred: bool
    activation_name: str
    is_gated: bool

    @property
    def activation(self) -> Activation:
        """The activation of the feed-forward network."""
        return ACTIVATIONS[self.activation_name]


def norm_heads(qk_SGD: Tensor, norms: tuple[Norm, Norm], shape: Shape) -> Tensor:
    """RMS norms of each query and key head, whose rows are interleaved."""
    query_D, key_D = (interleave_halves(norm.factor_I(qk_SGD), shape.head_width) for norm in norms)
    weight_GD = torch.cat([query_D.expand(shape.num_heads, -1), key_D.expand(shape.num_kv_heads, -1)])
    return functional.rms_norm(qk_SGD, qk_SGD.shape[2:], eps=norms[0].epsilon) * weight_GD


class DenseLayers:
    """Working copies of all layers of one model.

    Args:
        backbone: of a model for which ``unsupported_reason`` is None.
        dtype: that products are computed in.
    """

    def __init__(self, backbone: Any, dtype: torch.dtype) -> None:
        family = self.family = family_of(backbone)
        self.backbone, self.dtype = backbone, dtype
        self.final_norm = norm_of(part(backbone, family.final_norm), family.norm_offset)
        layers = part(backbone, family.layers)
        width = self.head_width = int(getattr(part(layers[0], family.attention), family.head_width))
        self.layers = [self.copy_layer(layer) for layer in layers]
        inputs, (out, qkv) = self.layers[0].qkv.norm, (self.layers[0].out, self.layers[0].qkv)
        assert inputs is not None
        num_heads = out.num_inputs // width
        self.shape = Shape(
            num_heads=num_heads,
            num_kv_heads=(qkv.rows[-1].stop // width - num_heads) // 2,
            head_width=width,
            epsilon=inputs.epsilon,
            centred=inputs.centred,
            activation_name=getattr(backbone.config, family.activation),
            is_gated=len(family.up) == 2,
        )

    def with_present_adapters(self) -> DenseLayers:
        """The same layers with adapters as they are now; all other weights are those that were copied before."""
        other = object.__new__(DenseLayers)
        other.__dict__.update(self.__dict__)
        other.layers = [layer.with_present_adapters() for layer in self.layers]
        return other

    def copy_layer(self, layer: Any) -> LayerWeights:
        """Working copies of one layer."""
        family, attention = self.family, part(layer, self.family.attention)
        normed = hasattr(attention, "q_norm")

        def linear(names: tuple[str, ...], norm: str | None = None, turned: int = 0) -> WorkingLinear:
            """Layers side by side, the rows of the first ones ``turned``."""
            widths = [self.head_width if i < turned else None for i in range(len(names))]
            sources = [Source(part(layer, name), width) for name, width in zip(names, widths, strict=True)]
            return WorkingLinear(sources, None if norm is None else self.norm(layer, norm), self.dtype)

        norms = [self.norm(layer, name) for name in family.post_norms or ()]
        return LayerWeights(
            form=self.form_of(attention),
            qkv=linear(family.qkv, family.attention_norm, turned=0 if family.rotary is None else 2),
            out=linear((family.out,)),
            up=linear(family.up, family.mlp_norm),
            down=linear((family.down,)),
            qk_norms=(self.norm(attention, "q_norm"), self.norm(attention, "k_norm")) if normed else None,
            post_norms=(norms[0], norms[1]) if norms else (None, None),
        )

    def norm(self, module: Any, name: str) -> Norm:
        """A norm inside a module."""
        return norm_of(part(module, name), self.family.norm_offset)

    def form_of(self, attention: Any) -> AttentionForm:
        """How one layer attends."""
        family, config = self.family, self.backbone.config
        kinds = None if family.rotary is None else getattr(part(self.backbone, family.rotary), "layer_types", None)
        own = attention if hasattr(attention, "sliding_window") else config
        return AttentionForm(
            scale=float(attention.scaling),
            cap=None if family.cap is None else getattr(config, family.cap),
            window=getattr(own, "sliding_window", None),
            rotation=None if kinds is None else attention.layer_type,
        )

    def active(self) -> list[LayerWeights]:
        """The layers with the adapters that are active: all, or all but the trained ones."""
        linears = [linear for layer in self.layers for linear in layer.linears()]
        if all(source.active() == source.adapters() for linear in linears for source in linear.sources):
            return self.layers
        return [layer.without_trained() for layer in self.layers]

    def rotations(self, num_positions: int) -> dict[str | None, Tensor | None]:
        """Complex rotation factors by position, (positions, 1, D / 2), of each rotation; None if there is none."""
        names = {layer.form.rotation for layer in self.layers}
        return {name: self.rotation(num_positions, name) for name in names}

    def rotation(self, num_positions: int, name: str | None) -> Tensor | None:
        """One of ``rotations``."""
        if self.family.rotary is None:
            return None
        device, wide = self.final_norm.weight_I.device, wider(self.dtype)
        positions = torch.arange(num_positions, device=device)[None]
        like = torch.zeros(1, dtype=wide, device=device)
        chosen = () if name is None else (name,)
        cos, sin = part(self.backbone, self.family.rotary)(like, positions, *chosen)
        half = self.head_width // 2
        return torch.complex(cos[0, :, :half].to(wide), sin[0, :, :half].to(wide))[:, None]

    def embed(self, ids_S: Tensor, position_S: Tensor) -> Tensor:
        """Input of the first layer, float32 or wider, with gradient."""
        family, wide = self.family, wider(self.dtype)
        x_SH = part(self.backbone, family.embedding)(ids_S).to(wide)
        if family.positions is None:
            return x_SH
        return x_SH + part(self.backbone, family.positions)(position_S).to(wide)


def copy_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Size of a working copy, bytes."""
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
