"""A working copy of the weights of a dense Llama-like model, laid out for incremental decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_gfn.policies.models.adapters import effective_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SUPPORTED = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose frequencies do not depend on the length of the sequence."""


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why the fused decoder cannot run this model; None if it can."""
    config = model.config
    if SUPPORTED.get(config.model_type) != type(model).__name__:
        return f"{type(model).__name__} is not one of {', '.join(SUPPORTED.values())}"
    if getattr(config, "hidden_act", None) != "silu":
        return f"hidden_act={config.hidden_act!r} is not 'silu'"
    layer_types = getattr(config, "layer_types", None)
    if layer_types is not None and set(layer_types) != {"full_attention"}:
        return "it has sliding-window layers"
    if layer_types is None and getattr(config, "sliding_window", None) is not None:
        return f"sliding_window={config.sliding_window}"
    rope_type = getattr(model.base_model.rotary_emb, "rope_type", None)
    if rope_type not in ROPE_TYPES:
        return f"rope_type={rope_type!r} is not one of {ROPE_TYPES}"
    if (model.base_model.layers[0].self_attn.head_dim) % 2:
        return "its head width is odd"
    return None


def interleave_halves(weight_A: Tensor, head_width: int) -> Tensor:
    """Reorder each head's rows from (x_0 … x_{D/2-1}, y_0 …) to (x_0, y_0, x_1, y_1, …).

    Rotary position embedding turns the pairs (x_i, y_i); side by side they are complex numbers and a turn is one
    product. Queries and keys are reordered alike, so their inner products stay the same.
    """
    heads = weight_A.shape[0] // head_width
    pairs = weight_A.view(heads, 2, head_width // 2, *weight_A.shape[1:])
    return pairs.transpose(1, 2).reshape(weight_A.shape)


@dataclass
class FusedLayer:
    """One decoder layer; matrices are stored (inputs, outputs).

    Args:
        qkv_HA: query, key and value projections side by side, queries and keys in interleaved order,
            and the weight of the norm before attention multiplied in.
        qkv_bias_A: their biases, or None.
        qk_norm_GD: weights of the norms of each query and key head, interleaved; None if there are none.
        out_AH: output projection.
        out_bias_H: its bias, or None.
        gate_up_HF: gate and up projections side by side, the weight of the norm before the MLP multiplied in.
        gate_up_bias_F: their biases, or None.
        down_FH: down projection.
        down_bias_H: its bias, or None.
    """

    qkv_HA: Tensor
    qkv_bias_A: Tensor | None
    qk_norm_GD: Tensor | None
    out_AH: Tensor
    out_bias_H: Tensor | None
    gate_up_HF: Tensor
    gate_up_bias_F: Tensor | None
    down_FH: Tensor
    down_bias_H: Tensor | None


def bias_of(module: nn.Module) -> Tensor | None:
    """The bias of a linear layer, adapted or not."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def join_transposed(weights: list[Tensor], dtype: torch.dtype, norm_I: Tensor | None = None) -> Tensor:
    """(inputs, outputs) matrix of (outputs, inputs) matrices, outputs side by side, inputs scaled by ``norm_I``."""
    joined = weights[0].new_empty(weights[0].shape[1], sum(w.shape[0] for w in weights), dtype=dtype)
    column = 0
    for weight in weights:
        scaled = weight if norm_I is None else weight.float() * norm_I.float()
        joined[:, column : column + weight.shape[0]] = scaled.t()
        column += weight.shape[0]
    return joined


def join_biases(biases: list[Tensor | None], dtype: torch.dtype) -> Tensor | None:
    """Biases side by side; None if there are none."""
    present = [bias for bias in biases if bias is not None]
    return torch.cat(present).to(dtype) if present else None


class FusedWeights:
    """Embedding, layers and output matrix of a model, adapters merged in, in the dtype that sampling runs in.

    Args:
        model: a model for which ``unsupported_reason`` is None; its adapters are merged into the copy alone.
        dtype: of the copy, but for its output matrix, which is float32.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        backbone: Any = model.base_model
        config = model.config
        attention = backbone.layers[0].self_attn
        self.dtype = dtype
        self.head_width: int = attention.head_dim
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self.epsilon: float = config.rms_norm_eps
        self.rotary = backbone.rotary_emb
        self.embedding_VH = effective_weight(backbone.embed_tokens).to(dtype)
        self.layers = [self.copy_layer(layer) for layer in backbone.layers]
        head = model.get_output_embeddings()
        self.head_HV = join_transposed([effective_weight(head)], torch.float32, backbone.norm.weight.detach())
        self.head_bias_V = join_biases([bias_of(head)], torch.float32)

    def copy_layer(self, layer: Any) -> FusedLayer:
        """The working copy of one layer."""
        attention, mlp, width = layer.self_attn, layer.mlp, self.head_width
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights = [effective_weight(module) for module in projections]
        biases = [bias_of(module) for module in projections]
        weights[:2] = [interleave_halves(weight, width) for weight in weights[:2]]
        biases[:2] = [None if bias is None else interleave_halves(bias, width) for bias in biases[:2]]
        qk_norm = None
        if hasattr(attention, "q_norm"):
            norms = [interleave_halves(norm.weight.detach(), width) for norm in (attention.q_norm, attention.k_norm)]
            qk_norm = torch.cat([norms[0].expand(self.num_heads, -1), norms[1].expand(self.num_kv_heads, -1)])
            qk_norm = qk_norm.to(self.dtype)
        return FusedLayer(
            qkv_HA=join_transposed(weights, self.dtype, layer.input_layernorm.weight.detach()),
            qkv_bias_A=join_biases(biases, self.dtype),
            qk_norm_GD=qk_norm,
            out_AH=join_transposed([effective_weight(attention.o_proj)], self.dtype),
            out_bias_H=join_biases([bias_of(attention.o_proj)], self.dtype),
            gate_up_HF=join_transposed(
                [effective_weight(m) for m in (mlp.gate_proj, mlp.up_proj)],
                self.dtype,
                layer.post_attention_layernorm.weight.detach(),
            ),
            gate_up_bias_F=join_biases([bias_of(m) for m in (mlp.gate_proj, mlp.up_proj)], self.dtype),
            down_FH=join_transposed([effective_weight(mlp.down_proj)], self.dtype),
            down_bias_H=join_biases([bias_of(mlp.down_proj)], self.dtype),
        )

    def rotations(self, num_positions: int) -> Tensor:
        """Complex rotation factors by position, (positions, 1, D / 2)."""
        device = self.embedding_VH.device
        positions = torch.arange(num_positions, device=device)[None]
        cos, sin = self.rotary(torch.zeros(1, dtype=torch.float32, device=device), position_ids=positions)
        half = self.head_width // 2
        return torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())[:, None]


def copy_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Size of a working copy, bytes."""
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
