"""A working copy of the decoder of a T5 model, laid out for incremental decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.adapters import effective_weight
from lightning_gfn.policies.encoder_decoder import EncoderDecoderBackbone
from lightning_gfn.policies.fused_weights import join_transposed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SUPPORTED = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
}


def unsupported_reason(model: PreTrainedModel) -> str | None:
    """Why the fused decoder cannot run this model; None if it can."""
    config = model.config
    if SUPPORTED.get(config.model_type) != type(model).__name__:
        return f"{type(model).__name__} is not one of {', '.join(SUPPORTED.values())}"
    if config.dense_act_fn not in ACTIVATIONS:
        return f"its activation {config.dense_act_fn!r} is not one of {', '.join(ACTIVATIONS)}"
    return None


@dataclass
class FusedT5Layer:
    """One decoder layer; matrices are stored (inputs, outputs), the weight of the norm before them multiplied in.

    Args:
        qkv_HA: query, key and value projections of self-attention side by side.
        out_QH: output projection of self-attention.
        cross_query_HQ: query projection of cross-attention.
        cross_key_value_HB: its key and value projections side by side; they read states of the encoder, without norm.
        cross_out_QH: its output projection.
        up_HF: the first matrices of the feed-forward network: gate and linear part side by side, or one.
        down_FH: its last matrix.
    """

    qkv_HA: Tensor
    out_QH: Tensor
    cross_query_HQ: Tensor
    cross_key_value_HB: Tensor
    cross_out_QH: Tensor
    up_HF: Tensor
    down_FH: Tensor


class FusedT5Weights:
    """Embedding, decoder layers and output matrix of a T5 model, adapters merged in; the encoder stays where it is.

    Args:
        model: a model for which ``unsupported_reason`` is None.
        backbone: its encoder and decoder.
        output_scale: factor on the logits.
        dtype: of the copy.
    """

    def __init__(
        self, model: PreTrainedModel, backbone: EncoderDecoderBackbone, output_scale: float, dtype: torch.dtype
    ) -> None:
        config: Any = model.config
        decoder: Any = backbone.decoder
        self.backbone, self.dtype = backbone, dtype
        self.num_heads: int = config.num_heads
        self.head_width: int = config.d_kv
        self.epsilon: float = config.layer_norm_epsilon
        self.activation = ACTIVATIONS[config.dense_act_fn]
        self.gated: bool = config.is_gated_act
        self.embedding_VH = effective_weight(decoder.embed_tokens).to(dtype)
        self.layers = [self.copy_layer(block.layer) for block in decoder.block]
        norm_H = decoder.final_layer_norm.weight.detach() * output_scale
        self.head_HV = join_transposed([effective_weight(model.get_output_embeddings())], dtype, norm_H)

    def copy_layer(self, parts: Any) -> FusedT5Layer:
        """The working copy of one decoder layer: self-attention, cross-attention and feed-forward network."""
        own, cross, network = parts[0].SelfAttention, parts[1].EncDecAttention, parts[2].DenseReluDense
        norms = [part.layer_norm.weight.detach() for part in parts]
        ups = (network.wi_0, network.wi_1) if self.gated else (network.wi,)

        def join(modules: tuple[Any, ...], norm_H: Tensor | None = None) -> Tensor:
            return join_transposed([effective_weight(module) for module in modules], self.dtype, norm_H)

        return FusedT5Layer(
            qkv_HA=join((own.q, own.k, own.v), norms[0]),
            out_QH=join((own.o,)),
            cross_query_HQ=join((cross.q,), norms[1]),
            cross_key_value_HB=join((cross.k, cross.v)),
            cross_out_QH=join((cross.o,)),
            up_HF=join(ups, norms[2]),
            down_FH=join((network.wo,)),
        )

    @torch.no_grad()
    def position_bias(self, num_positions: int) -> Tensor:
        """What the last of L positions adds to its attention to each of them, (1, heads, 1, L)."""
        decoder: Any = self.backbone.decoder
        attention = decoder.block[0].layer[0].SelfAttention
        return attention.compute_bias(num_positions, num_positions)[:, :, -1:].to(self.dtype).contiguous()
