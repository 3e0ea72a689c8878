"""Families of dense models by the parts of their layers, and what of a model no pass of ours knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from lightning_gfn.policies.fused.activations import ACTIVATIONS
from lightning_gfn.policies.fused.working_linear import Source, is_linear


@dataclass(frozen=True)
class Family:
    """Names of the parts of one layer, inside of the layer, and of the parts around all layers, inside of the model.

        x ← x + post₁(W_out attention(W_qkv norm₁(x))),    x ← x + post₂(W_down (act(W_gate norm₂(x)) · W_up norm₂(x)))

    Whether layers have biases, norms of query and key heads, windows, caps and gates is seen on the modules.

    Args:
        attention: attention, whose scale and window count.
        qkv: projections to queries, keys and values, or one to all three.
        out: output projection of attention.
        up: gate and up projection, or the up projection alone.
        down: down projection.
        attention_norm: norm₁.
        mlp_norm: norm₂.
        post_norms: post₁ and post₂; None if there are none.
        layers: all layers.
        embedding: of tokens.
        positions: embedding of positions; None if queries and keys are rotated, or attention has a bias by position.
        rotary: what gives the rotation of queries and keys; None if they are not rotated.
        final_norm: norm after the last layer.
        norm_offset: added to the weights of all norms.
        activation: field of the configuration that names act.
        cap: field of the configuration that bounds attention scores; None if nothing does.
        head_width: attribute of attention.
    """

    attention: str = "self_attn"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    out: str = "self_attn.o_proj"
    up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    attention_norm: str = "input_layernorm"
    mlp_norm: str = "post_attention_layernorm"
    post_norms: tuple[str, str] | None = None
    layers: str = "layers"
    embedding: str = "embed_tokens"
    positions: str | None = None
    rotary: str | None = "rotary_emb"
    final_norm: str = "norm"
    norm_offset: float = 0.0
    activation: str = "hidden_act"
    cap: str | None = None
    head_width: str = "head_dim"


LLAMA = Family()
GEMMA2 = replace(
    LLAMA,
    mlp_norm="pre_feedforward_layernorm",
    post_norms=("post_attention_layernorm", "post_feedforward_layernorm"),
    norm_offset=1.0,
    activation="hidden_activation",
    cap="attn_logit_softcapping",
)
FAMILIES = {
    "LlamaModel": LLAMA,
    "MistralModel": LLAMA,
    "Qwen2Model": LLAMA,
    "Qwen3Model": LLAMA,
    "GemmaModel": replace(LLAMA, norm_offset=1.0),
    "Gemma2Model": GEMMA2,
    "Gemma3TextModel": replace(GEMMA2, cap=None),
    "GPT2Model": Family(
        attention="attn",
        qkv=("attn.c_attn",),
        out="attn.c_proj",
        up=("mlp.c_fc",),
        down="mlp.c_proj",
        attention_norm="ln_1",
        mlp_norm="ln_2",
        layers="h",
        embedding="wte",
        positions="wpe",
        rotary=None,
        final_norm="ln_f",
        activation="activation_function",
    ),
}
"""By the class of the model without its output layer."""
T5_STACKS = ("T5Stack", "MT5Stack")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""


def family_of(backbone: Any) -> Family:
    """The family of a model for which ``unsupported_reason`` is None, or of the encoder or decoder of one."""
    name = type(backbone).__name__
    return t5_family(backbone) if name in T5_STACKS else FAMILIES[name]


def t5_family(stack: Any) -> Family:
    """An encoder, or a decoder without its cross-attention, of the T5 kind."""
    network = f"layer.{len(stack.block[0].layer) - 1}"
    names = ("wi_0", "wi_1") if stack.config.is_gated_act else ("wi",)
    return Family(
        attention="layer.0.SelfAttention",
        qkv=("layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v"),
        out="layer.0.SelfAttention.o",
        up=tuple(f"{network}.DenseReluDense.{name}" for name in names),
        down=f"{network}.DenseReluDense.wo",
        attention_norm="layer.0.layer_norm",
        mlp_norm=f"{network}.layer_norm",
        layers="block",
        rotary=None,
        final_norm="final_layer_norm",
        activation="dense_act_fn",
        head_width="key_value_proj_dim",
    )


def part(module: Any, name: str) -> Any:
    """A module by its dotted name."""
    return attrgetter(name)(module)


def stacks_of(backbone: Any) -> list[Any]:
    """The model without its output layer, or its encoder and its decoder."""
    return [backbone.encoder, backbone.decoder] if hasattr(backbone, "encoder") else [backbone]


def unsupported_model(stack: Any) -> str | None:
    """What about the architecture no pass of ours knows; None if nothing."""
    name = type(stack).__name__
    if name not in (*FAMILIES, *T5_STACKS):
        return f"{name} is not one of {', '.join((*FAMILIES, *T5_STACKS))}"
    family, config = family_of(stack), stack.config
    activation = getattr(config, family.activation)
    if activation not in ACTIVATIONS:
        return f"{family.activation}={activation!r} is not one of {', '.join(ACTIVATIONS)}"
    return None if name in T5_STACKS else unsupported_attention(stack, family)


def unsupported_attention(backbone: Any, family: Family) -> str | None:
    """What about the attention of a decoder-only model no pass of ours knows; None if nothing."""
    config = backbone.config
    attentions = [part(layer, family.attention) for layer in part(backbone, family.layers)]
    if not all(getattr(attention, "is_causal", True) for attention in attentions):
        return "its tokens see later ones"
    if getattr(config, "add_cross_attention", False):
        return "it has cross-attention"
    if family.rotary is None:
        return None
    given = getattr(part(backbone, family.rotary), "rope_type", None)
    for rope_type in given.values() if isinstance(given, dict) else [given]:
        if rope_type not in ROPE_TYPES:
            return f"rope_type={rope_type!r} is not one of {ROPE_TYPES}"
    return "its head width is odd" if attentions[0].head_dim % 2 else None


def unsupported_reason(backbone: Any) -> str | None:
    """Why no pass of ours can run this model as it is now; None if one can.

    Args:
        backbone: the model without its output layer.
    """
    for stack in stacks_of(backbone):
        if (reason := unsupported_model(stack)) is not None:
            return reason
        layers = family_of(stack).layers
        for name, module in part(stack, layers).named_modules():
            if module._forward_hooks or module._forward_pre_hooks:
                return f"a forward hook is registered on {layers}.{name}"
            if (reason := unsupported_layer(name, module)) is not None:
                return f"{layers}.{name} {reason}"
        for name, module in stack.named_children():
            if (reason := active_dropout(module)) is not None:
                return f"{name} {reason}"
    return None


def active_dropout(module: Any) -> str | None:
    """What of one module drops values now; None if nothing does."""
    if not module.training:
        return None
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        return f"has dropout {module.p}"
    for name in ("attention_dropout", "dropout"):
        if isinstance(rate := getattr(module, name, None), float) and rate > 0:
            return f"has attention dropout {rate}"
    return None


def unsupported_layer(name: str, module: Any) -> str | None:
    """What about one module no pass of ours knows; None if nothing."""
    if (reason := active_dropout(module)) is not None:
        return reason
    if hasattr(module, "get_delta_weight"):
        if module.lora_variant or not is_linear(module.get_base_layer()):
            return "has an adapter that is no plain low-rank one"
        if any(up.bias is not None for up in module.lora_B.values()):
            return "has an adapter with biases"
        source = Source(module)
        if source.active() not in (source.adapters(), source.adapters_of_reference()):
            return f"has adapters of which only {', '.join(source.active())} are active"
    elif not (module._parameters and not name.endswith("relative_attention_bias")):
        return None
    elif "Norm" not in type(module).__name__ and not is_linear(module):
        return f"is a {type(module).__name__}"
    if any(type(p.data) is not Tensor for p in module._parameters.values() if p is not None):
        return "has weights that are split over devices"
    return None
