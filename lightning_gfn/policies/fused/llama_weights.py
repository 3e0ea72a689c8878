"""What a fused decoder computes with: working copies of the layers, the embedding and the output matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_gfn.policies.fused.llama_layers import LlamaLayers
from lightning_gfn.policies.models.adapters import effective_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def join_transposed(weights: list[Tensor], dtype: torch.dtype, norm_I: Tensor | None = None) -> Tensor:
    """(inputs, outputs) matrix of (outputs, inputs) matrices, outputs side by side, inputs scaled by ``norm_I``."""
    joined = weights[0].new_empty(weights[0].shape[1], sum(w.shape[0] for w in weights), dtype=dtype)
    column = 0
    for weight in weights:
        scaled = weight if norm_I is None else weight.float() * norm_I.float()
        joined[:, column : column + weight.shape[0]] = scaled.t()
        column += weight.shape[0]
    return joined


class FusedWeights:
    """Embedding, layers and output matrix of a model in the type that sampling runs in.

    Args:
        model: a model for which ``unsupported_reason`` is None.
        layers: working copies of its layers; those of the adapters that are active now are used.
    """

    def __init__(self, model: PreTrainedModel, layers: LlamaLayers) -> None:
        self.use_layers(layers)
        backbone = layers.backbone
        self.embedding_VH = effective_weight(backbone.embed_tokens).to(self.dtype)
        head = model.get_output_embeddings()
        self.head_HV = join_transposed([effective_weight(head)], torch.float32, backbone.norm.weight.detach())
        bias_V = getattr(head, "bias", None)
        self.head_bias_V = bias_V.detach().float() if isinstance(bias_V, Tensor) else None

    def use_layers(self, layers: LlamaLayers) -> None:
        """Compute with these copies of the layers, and with the adapters that are active now."""
        self.copies, self.layers = layers, layers.active()
        self.dtype, self.shape = layers.dtype, layers.shape
