"""Working copies of the layers of dense Llama-like models, for decoding and for teacher-forced passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_gfn.policies.fused.working_linear import Source, WorkingLinear, interleave_halves, wider

SUPPORTED = ("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""


def unsupported_model(backbone: Any) -> str | None:
    """Why no pass of ours can run this model; None if one can."""
    if type(backbone).__name__ not in SUPPORTED:
        return f"{type(backbone).__name__} is not one of {', '.join(SUPPORTED)}"
    config = backbone.config
    if getattr(config, "hidden_act", None) != "silu":
        return f"hidden_act={config.hidden_act!r} is not 'silu'"
    layer_types = getattr(config, "layer_types", None)
    if layer_types is not None and set(layer_types) != {"full_attention"}:
        return "it has sliding-window layers"
    if layer_types is None and getattr(config, "sliding_window", None) is not None:
        return f"sliding_window={config.sliding_window}"
    rope_type = getattr(backbone.rotary_emb, "rope_type", None)
    if rope_type not in ROPE_TYPES:
        return f"rope_type={rope_type!r} is not one of {ROPE_TYPES}"
    if backbone.layers[0].self_attn.head_dim % 2:
        return "its head width is odd"
    return None


def unsupported_reason(backbone: Any) -> str | None:
    """Why no pass of ours can run this model as it is now; None if one can.

    Args:
        backbone: the model without its output layer.
    """
    if (reason := unsupported_model(backbone)) is not None:
        return reason
    for name, module in backbone.layers.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f"a forward hook is registered on layers.{name}"
        if (reason := unsupported_layer(module)) is not None:
            return f"layers.{name} {reason}"
    return None


def unsupported_layer(module: Any) -> str | None:
    """What about one module this pass does not know; None if nothing."""
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
        return f"has dropout {module.p}"
    if getattr(module, "attention_dropout", 0.0) and module.training:
        return f"has attention dropout {module.attention_dropout}"
    if hasattr(module, "get_delta_weight"):
        if module.lora_variant or type(module.get_base_layer()) is not nn.Linear:
            return "has an adapter that is no plain low-rank one"
        if any(up.bias is not None for up in module.lora_B.values()):
            return "has an adapter with biases"
        source = Source(module)
        if source.active() not in (source.adapters(), source.adapters_of_reference()):
            return f"has adapters of which only {', '.join(source.active())} are active"
    elif module._parameters and "Norm" not in type(module).__name__ and type(module) is not nn.Linear:
        return f"is a {type(module).__name__}"
    if any(type(p.data) is not Tensor for p in module._parameters.values() if p is not None):
        return "has weights that are split over devices"
    return None


@dataclass
class LayerWeights:
    """Working copies of one layer.

    Args:
        qkv: queries, scaled, keys and values, of normalised inputs; query and key heads interleaved.
        out: output projection of attention.
        gate_up: gate and up projections, of normalised inputs.
        down: down projection.
        qk_norms: norms of each query and key head, before rotation; None if there are none.
    """

    qkv: WorkingLinear
    out: WorkingLinear
    gate_up: WorkingLinear
    down: WorkingLinear
    qk_norms: tuple[nn.Parameter, nn.Parameter] | None

    def with_present_adapters(self) -> LayerWeights:
        """The same layer with adapters as they are now."""
        qkv, out, gate_up, down = (linear.with_present_adapters() for linear in self.linears())
        return LayerWeights(qkv, out, gate_up, down, self.qk_norms)

    def linears(self) -> tuple[WorkingLinear, WorkingLinear, WorkingLinear, WorkingLinear]:
        """All four."""
        return self.qkv, self.out, self.gate_up, self.down

    def without_trained(self) -> LayerWeights:
        """The same layer without its trained adapters."""
        qkv, out, gate_up, down = (linear.without_trained() for linear in self.linears())
        return LayerWeights(qkv, out, gate_up, down, self.qk_norms)


@dataclass(frozen=True)
class Shape:
    """Heads and constants of a model.

    Args:
        num_heads: of queries.
        num_kv_heads: of keys and values.
        head_width: D.
        epsilon: added to mean squares.
    """

    num_heads: int
    num_kv_heads: int
    head_width: int
    epsilon: float


def norm_heads(qk_SGD: Tensor, norms: tuple[nn.Parameter, nn.Parameter], shape: Shape) -> Tensor:
    """RMS norms of each query and key head, whose rows are interleaved; queries are scaled by 1 / sqrt(D)."""
    query_D, key_D = (interleave_halves(norm.to(qk_SGD.dtype), shape.head_width) for norm in norms)
    scaled = (query_D * shape.head_width**-0.5).expand(shape.num_heads, -1)
    weight_GD = torch.cat([scaled, key_D.expand(shape.num_kv_heads, -1)])
    return functional.rms_norm(qk_SGD, qk_SGD.shape[2:], eps=shape.epsilon) * weight_GD


class LlamaLayers:
    """Working copies of all layers of one model.

    Args:
        backbone: of a model for which ``unsupported_reason`` is None.
        dtype: that products are computed in.
    """

    def __init__(self, backbone: Any, dtype: torch.dtype) -> None:
        config = backbone.config
        self.backbone, self.dtype = backbone, dtype
        self.shape = Shape(
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_width=backbone.layers[0].self_attn.head_dim,
            epsilon=config.rms_norm_eps,
        )
        self.layers = [self.copy_layer(layer) for layer in backbone.layers]

    def with_present_adapters(self) -> LlamaLayers:
        """The same layers with adapters as they are now; all other weights are those that were copied before."""
        other = object.__new__(LlamaLayers)
        other.__dict__.update(self.__dict__)
        other.layers = [layer.with_present_adapters() for layer in self.layers]
        return other

    def copy_layer(self, layer: Any) -> LayerWeights:
        """Working copies of one layer."""
        attention, mlp, width, dtype = layer.self_attn, layer.mlp, self.shape.head_width, self.dtype
        normed = hasattr(attention, "q_norm")
        scale = 1.0 if normed else width**-0.5
        qkv = [Source(attention.q_proj, width, scale), Source(attention.k_proj, width), Source(attention.v_proj)]
        return LayerWeights(
            qkv=WorkingLinear(qkv, layer.input_layernorm.weight, dtype),
            out=WorkingLinear([Source(attention.o_proj)], None, dtype),
            gate_up=WorkingLinear(
                [Source(mlp.gate_proj), Source(mlp.up_proj)], layer.post_attention_layernorm.weight, dtype
            ),
            down=WorkingLinear([Source(mlp.down_proj)], None, dtype),
            qk_norms=(attention.q_norm.weight, attention.k_norm.weight) if normed else None,
        )

    def active(self) -> list[LayerWeights]:
        """The layers with the adapters that are active: all, or all but the trained ones."""
        linears = [linear for layer in self.layers for linear in layer.linears()]
        if all(source.active() == source.adapters() for linear in linears for source in linear.sources):
            return self.layers
        return [layer.without_trained() for layer in self.layers]

    def rotations(self, num_positions: int) -> Tensor:
        """Complex rotation factors by position, (positions, 1, D / 2)."""
        device = self.backbone.norm.weight.device
        positions, wide = torch.arange(num_positions, device=device)[None], wider(self.dtype)
        like = torch.zeros(1, dtype=wide, device=device)
        cos, sin = self.backbone.rotary_emb(like, position_ids=positions)
        half = self.shape.head_width // 2
        return torch.complex(cos[0, :, :half].to(wide), sin[0, :, :half].to(wide))[:, None]


def copy_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Size of a working copy, bytes."""
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
