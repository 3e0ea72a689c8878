"""A working copy of a T5 model, laid out for sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.decoder_weights import columns_of, join_transposed
from lightning_gfn.policies.models.adapters import effective_weight
from lightning_gfn.policies.models.encoder_decoder import EncoderDecoderBackbone

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
    if SUPPORTED.get(config.model_type) != type(model).__name__.removeprefix("FSDP"):
        return f"{type(model).__name__} is not one of {', '.join(SUPPORTED.values())}"
    if config.dense_act_fn not in ACTIVATIONS:
        return f"its activation {config.dense_act_fn!r} is not one of {', '.join(ACTIVATIONS)}"
    return None


@dataclass
class FusedT5Layer:
    """One layer; matrices are stored (inputs, outputs), the weight of the norm before them multiplied in.

    Args:
        qkv_HA: query, key and value projections of self-attention side by side.
        out_QH: output projection of self-attention.
        up_HF: the first matrices of the feed-forward network: gate and linear part side by side, or one.
        down_FH: its last matrix.
    """

    qkv_HA: Tensor
    out_QH: Tensor
    up_HF: Tensor
    down_FH: Tensor


@dataclass
class CrossLayer:
    """Cross-attention of one decoder layer.

    Args:
        query_HQ: query projection, the weight of the norm before it multiplied in.
        key_value_HB: key and value projections side by side; they read states of the encoder, without norm.
        out_QH: output projection.
    """

    query_HQ: Tensor
    key_value_HB: Tensor
    out_QH: Tensor


class FusedT5Weights:
    """Embedding, layers and output matrix of a T5 model, adapters merged in, in the dtype that sampling runs in.

    Args:
        model: a model for which ``unsupported_reason`` is None.
        backbone: its encoder and decoder.
        output_scale: factor on the logits.
        dtype: of the copy, but for its output matrix, which is float32.
        columns_K: token ids whose logits are wanted; None for all.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        backbone: EncoderDecoderBackbone,
        output_scale: float,
        dtype: torch.dtype,
        columns_K: Tensor | None = None,
    ) -> None:
        config: Any = model.config
        encoder: Any = backbone.encoder
        decoder: Any = backbone.decoder
        self.backbone, self.dtype = backbone, dtype
        self.num_heads: int = config.num_heads
        self.head_width: int = config.d_kv
        self.epsilon: float = config.layer_norm_epsilon
        self.activation = ACTIVATIONS[config.dense_act_fn]
        self.gated: bool = config.is_gated_act
        self.embedding_VH = effective_weight(decoder.embed_tokens).to(dtype)
        self.encoder_layers = [self.copy_layer(block.layer) for block in encoder.block]
        self.encoder_norm_H = encoder.final_layer_norm.weight.detach().to(dtype)
        self.layers = [self.copy_layer(block.layer) for block in decoder.block]
        self.cross_layers = [self.copy_cross(block.layer[1]) for block in decoder.block]
        norm_H = decoder.final_layer_norm.weight.detach() * output_scale
        self.columns_K = columns_K
        head_VH = columns_of(effective_weight(model.get_output_embeddings()), columns_K)
        self.head_HV = join_transposed([head_VH], torch.float32, norm_H)

    def join(self, *modules: Any, norm_H: Tensor | None = None) -> Tensor:
        """Matrices side by side, (inputs, outputs), with the weight of the norm before them."""
        return join_transposed([effective_weight(module) for module in modules], self.dtype, norm_H)

    def copy_layer(self, parts: Any) -> FusedT5Layer:
        """Self-attention and feed-forward network of one layer."""
        own, network = parts[0].SelfAttention, parts[-1].DenseReluDense
        ups = (network.wi_0, network.wi_1) if self.gated else (network.wi,)
        return FusedT5Layer(
            qkv_HA=self.join(own.q, own.k, own.v, norm_H=parts[0].layer_norm.weight.detach()),
            out_QH=self.join(own.o),
            up_HF=self.join(*ups, norm_H=parts[-1].layer_norm.weight.detach()),
            down_FH=self.join(network.wo),
        )

    def copy_cross(self, part: Any) -> CrossLayer:
        """Cross-attention of one decoder layer."""
        attention = part.EncDecAttention
        return CrossLayer(
            query_HQ=self.join(attention.q, norm_H=part.layer_norm.weight.detach()),
            key_value_HB=self.join(attention.k, attention.v),
            out_QH=self.join(attention.o),
        )

    def position_bias(self, num_positions: int) -> Tensor:
        """What the last of L decoder positions adds to its attention to each of them, (1, heads, 1, L)."""
        return self._bias(self.backbone.decoder, num_positions)[:, :, -1:].contiguous()

    def encoder_bias(self, num_positions: int) -> Tensor:
        """What each of L encoder positions adds to its attention to each of them, (1, heads, L, L)."""
        return self._bias(self.backbone.encoder, num_positions)

    @torch.no_grad()
    def _bias(self, stack: Any, num_positions: int) -> Tensor:
        attention = stack.block[0].layer[0].SelfAttention
        return attention.compute_bias(num_positions, num_positions).to(self.dtype).contiguous()
