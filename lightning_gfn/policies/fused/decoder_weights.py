"""What a fused decoder computes with: working copies of the layers, the embedding and the output matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.families import part
from lightning_gfn.policies.fused.layers import DenseLayers
from lightning_gfn.policies.fused.norms import Norm
from lightning_gfn.policies.fused.operations import linear_
from lightning_gfn.policies.models.adapters import effective_weight
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.numerics.wide_linear import wide_product

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def join_transposed(weights: list[Tensor], dtype: torch.dtype, norm_I: Tensor | None = None) -> Tensor:
    """(inputs, outputs) matrix of (outputs, inputs) matrices, outputs side by side, inputs scaled by ``norm_I``."""
    # Memory ordered as that of the weights: transposed copies are far slower.
    joined_OI = weights[0].new_empty(sum(w.shape[0] for w in weights), weights[0].shape[1], dtype=dtype)
    row = 0
    for weight in weights:
        out_OI = joined_OI[row : row + weight.shape[0]]
        if norm_I is None:
            out_OI.copy_(weight)
        else:
            torch.mul(weight, norm_I.float(), out=out_OI)
        row += weight.shape[0]
    return joined_OI.t()


def columns_of(weight: Tensor, columns_K: Tensor | None) -> Tensor:
    """The part of an output layer's weight or bias that gives these logits."""
    return weight if columns_K is None else weight.index_select(0, columns_K)


class FusedWeights:
    """Embedding, layers and output matrix of a model in the type that sampling runs in.

    Args:
        model: a model for whose backbone ``unsupported_reason`` is None.
        layers: working copies of its layers; those of the adapters that are active now are used.
        output_layer: how it turns hidden states into logits.
        columns_K: token ids whose logits are wanted; None for all.
    """

    def __init__(
        self, model: PreTrainedModel, layers: DenseLayers, output_layer: OutputLayer, columns_K: Tensor | None = None
    ) -> None:
        self.use_layers(layers)
        family, norm = layers.family, layers.final_norm
        embedding = part(layers.backbone, family.embedding)
        weight_VH, scale = effective_weight(embedding), getattr(embedding, "embed_scale", None)
        self.embedding_VH: Tensor = (weight_VH if scale is None else weight_VH * scale).to(self.dtype)
        self.position_LH: Tensor | None = None
        if family.positions is not None:
            self.position_LH = effective_weight(part(layers.backbone, family.positions)).to(self.dtype)
        # A GPU adds narrow products up in float32; a processor rounds them.
        dtype = self.dtype if weight_VH.is_cuda else torch.float32
        self.columns_K = columns_K
        self.head_HV, self.head_bias_V = output_matrix(model, norm, output_layer.scale, dtype, columns_K)
        self.cap = output_layer.cap

    def use_layers(self, layers: DenseLayers) -> None:
        """Compute with these copies of the layers, and with the adapters that are active now."""
        self.copies, self.layers = layers, layers.active()
        self.dtype, self.shape = layers.dtype, layers.shape

    def embed(self, ids_M: Tensor, position_M: Tensor) -> Tensor:
        """Input of the first layer."""
        x_MH = functional.embedding(ids_M, self.embedding_VH)
        return x_MH if self.position_LH is None else x_MH.add_(functional.embedding(position_M, self.position_LH))

    def new_logits(self, num_rows: int) -> Tensor:
        """Memory for logits of so many rows, float32."""
        return self.head_HV.new_empty(num_rows, self.head_HV.shape[1], dtype=torch.float32)

    def write_logits(self, out_MV: Tensor, normed_MH: Tensor) -> None:
        """Write logits, float32, of states behind the final norm without its weights."""
        if self.head_HV.dtype == out_MV.dtype:
            linear_(out_MV, normed_MH, self.head_HV, self.head_bias_V)
        else:
            narrow = self.head_HV.dtype
            out_MV.copy_(wide_product(normed_MH.to(narrow), self.head_HV.t(), narrow))
            if self.head_bias_V is not None:
                out_MV += self.head_bias_V
        if self.cap is not None:
            out_MV.div_(self.cap).tanh_().mul_(self.cap)


def output_matrix(
    model: PreTrainedModel, norm: Norm, scale: float, dtype: torch.dtype, columns_K: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Matrix, and bias in float32, that turn normalised states into logits, with the final norm multiplied in.

    Args:
        model: whose output layer it is.
        norm: before the output layer.
        scale: factor on the logits.
        dtype: of the matrix.
        columns_K: token ids whose logits are wanted; None for all.
    """
    head = model.get_output_embeddings()
    weight_VH = columns_of(effective_weight(head), columns_K)
    matrix_HV = join_transposed([weight_VH], dtype, norm.factor_I(weight_VH).detach().float() * scale)
    biases = [
        columns_of(bias.detach(), columns_K).float()
        for bias in (getattr(head, "bias", None),)
        if isinstance(bias, Tensor)
    ]
    if norm.bias_I is not None:
        biases.append(weight_VH.float() @ norm.bias_I.detach().float())
    return matrix_HV, torch.stack(biases).sum(0) * scale if biases else None
