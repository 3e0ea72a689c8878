"""The encoder of a T5 model over contexts that stand one after another, without padding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.operations import Normaliser, add_linear_, linear_
from lightning_gfn.policies.fused.t5.weights import FusedT5Layer, FusedT5Weights


class T5Activations(Normaliser):
    """Memory for the activations of M positions, used by every layer in turn, and the views that a layer needs of it.

    Args:
        weights: the working copy.
        num_rows: M.
    """

    def __init__(self, weights: FusedT5Weights, num_rows: int) -> None:
        empty = weights.embedding_VH.new_empty
        super().__init__(weights.embedding_VH, weights.embedding_VH.shape[1], num_rows, weights.epsilon)
        self.states_MA = empty(num_rows, 3 * weights.num_heads * weights.head_width)
        self.states_MGD = self.states_MA.view(num_rows, 3 * weights.num_heads, weights.head_width)
        self.up_MF = empty(num_rows, weights.layers[0].up_HF.shape[1])
        self.gate_MF = self.up_MF
        self.linear_MF: Tensor | None = None
        if weights.gated:
            self.gate_MF, self.linear_MF = self.up_MF.chunk(2, dim=1)
        self.activation = weights.activation

    def add_feed_forward_(self, layer: FusedT5Layer, x_MH: Tensor) -> None:
        """x += FF(norm(x)), in place."""
        linear_(self.up_MF, self.normalise(x_MH), layer.up_HF, None)
        inner_MF = self.activation(self.gate_MF)
        add_linear_(x_MH, inner_MF if self.linear_MF is None else inner_MF.mul_(self.linear_MF), layer.down_FH, None)


@torch.no_grad()
def encode(weights: FusedT5Weights, ids_PC: Tensor, mask_PC: Tensor) -> tuple[Tensor, Tensor]:
    """States of contexts: matrices multiply all tokens at once, and each context attends to itself alone.

    Args:
        weights: the working copy.
        ids_PC: int64, padded on either side.
        mask_PC: bool, True on tokens.

    Returns:
        states (P, C, H), 0 on padding, which is on the right; their mask (P, C), bool.
    """
    lengths_P1 = mask_PC.sum(1, keepdim=True)
    lengths, heads = lengths_P1.squeeze(1).tolist(), weights.num_heads
    bias_1GCC = weights.encoder_bias(max(lengths))
    x_MH = functional.embedding(ids_PC[mask_PC], weights.embedding_VH)
    buffers = T5Activations(weights, len(x_MH))
    mixed_MGD = x_MH.new_empty(len(x_MH), heads, weights.head_width)
    pieces = list(zip(buffers.states_MGD.split(lengths), mixed_MGD.split(lengths), lengths, strict=True))
    for layer in weights.encoder_layers:
        linear_(buffers.states_MA, buffers.normalise(x_MH), layer.qkv_HA, None)
        for states_LGD, mixed_LGD, length in pieces:
            query, key, value = states_LGD.transpose(0, 1)[None].chunk(3, dim=1)
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=bias_1GCC[:, :, :length, :length], scale=1.0
            )
            mixed_LGD.copy_(mixed[0].transpose(0, 1))
        add_linear_(x_MH, mixed_MGD.flatten(1), layer.out_QH, None)
        buffers.add_feed_forward_(layer, x_MH)
    right_PC = torch.arange(max(lengths), device=ids_PC.device) < lengths_P1
    states_PCH = x_MH.new_zeros(*right_PC.shape, x_MH.shape[1])
    states_PCH[right_PC] = buffers.normalise(x_MH) * weights.encoder_norm_H
    return states_PCH, right_PC
