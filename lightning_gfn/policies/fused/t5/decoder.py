"""Incremental decoding of T5 models with few, large operations a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.operations import add_linear_, linear_
from lightning_gfn.policies.fused.t5.encoder import T5Activations, encode
from lightning_gfn.policies.fused.t5.weights import FusedT5Weights
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.kv_cache import move_rows_, with_room


class CrossActivations(T5Activations):
    """The same with queries of cross-attention.

    Args:
        weights: the working copy.
        num_rows: R.
    """

    def __init__(self, weights: FusedT5Weights, num_rows: int) -> None:
        heads, width = weights.num_heads, weights.head_width
        super().__init__(weights, num_rows)
        self.query_RG1D = self.states_MGD[:, :heads, None]
        self.kept_RGD = self.states_MGD[:, heads:]
        self.cross_RQ = weights.embedding_VH.new_empty(num_rows, heads * width)
        self.cross_RG1D = self.cross_RQ.view(num_rows, heads, 1, width)


class FusedT5Decoder(Decoder):
    """Decodes from a ``FusedT5Weights`` copy.

    One cache tensor a layer holds the key heads, then the value heads, of self-attention, and one those of
    cross-attention. All rows stand at the same position, so self-attention needs no mask. While all rows have one
    context, its keys and values are kept once and the rows are its queries.

    Args:
        weights: the working copy.
    """

    def __init__(self, weights: FusedT5Weights) -> None:
        self.weights, self.columns_K = weights, weights.columns_K

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        weights = self.weights
        full_PC = torch.ones_like(ids_PC, dtype=torch.bool) if mask_PC is None else mask_PC
        # One context after another is fast on a processor; an accelerator wants them all at once.
        packed = ids_PC.device.type == "cpu"
        states_PCH, right_PC = encode(weights, ids_PC, full_PC) if packed else weights.backbone.encode(ids_PC, full_PC)
        states_PCH = states_PCH.to(weights.dtype)
        self.crosses = []
        for layer in weights.cross_layers:
            joined = (states_PCH @ layer.key_value_HB).unflatten(2, (-1, weights.head_width))
            self.crosses.append(joined.transpose(1, 2).contiguous())
        self.mask_N11C: Tensor | None = None
        if mask_PC is not None:
            additive = torch.zeros(right_PC.shape, dtype=weights.dtype, device=right_PC.device)
            self.mask_N11C = additive.masked_fill_(~right_PC, -torch.inf)[:, None, None]
        num_prompts = ids_PC.shape[0]
        self.length, self.shared = 0, num_prompts == 1
        self.allocate(num_prompts, 1, num_prompts)
        return self.step(ids_PC.new_full((num_prompts,), weights.backbone.start_id))

    def allocate(self, num_rows: int, capacity: int, room: int) -> None:
        """Make empty caches and room for logits."""
        weights = self.weights
        empty = weights.embedding_VH.new_empty
        shape = (room, 2 * weights.num_heads, capacity, weights.head_width)
        self.caches = [empty(shape) for _ in weights.layers]
        self.logits_NV = weights.head_HV.new_empty(room, weights.head_HV.shape[1])
        self.bias_1G1L = weights.position_bias(capacity)
        self.keep_rows(num_rows)

    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        """See ``Decoder.expand``."""
        starts, num_rows = self.caches, len(rows_N)
        room = num_rows if room is None else room
        if not self.shared:
            self.crosses = [with_room(cross.index_select(0, rows_N), room) for cross in self.crosses]
            if self.mask_N11C is not None:
                self.mask_N11C = with_room(self.mask_N11C.index_select(0, rows_N), room)
        self.allocate(num_rows, self.length + num_steps, room)
        for cache, start in zip(self.caches, starts, strict=True):
            cache[:num_rows, :, : self.length] = start.index_select(0, rows_N)

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        slot = self.length
        self.length += 1
        buffers = self.buffers
        bias = self.bias_1G1L[:, :, :, -self.length :]
        x_RH = functional.embedding(tokens_R, self.weights.embedding_VH)
        for number, (layer, cross) in enumerate(zip(self.weights.layers, self.weights.cross_layers, strict=True)):
            linear_(buffers.states_MA, buffers.normalise(x_RH), layer.qkv_HA, None)
            self.rows[number].select(2, slot).copy_(buffers.kept_RGD)
            mixed = functional.scaled_dot_product_attention(
                buffers.query_RG1D,
                self.keys[number].narrow(2, 0, self.length),
                self.values[number].narrow(2, 0, self.length),
                attn_mask=bias,
                scale=1.0,
            )
            add_linear_(x_RH, mixed.view(x_RH.shape[0], -1), layer.out_QH, None)
            linear_(buffers.cross_RQ, buffers.normalise(x_RH), cross.query_HQ, None)
            add_linear_(x_RH, self.read_context(number), cross.out_QH, None)
            buffers.add_feed_forward_(layer, x_RH)
        linear_(self.logits_RV, buffers.normalise_wide(x_RH), self.weights.head_HV, None)
        return self.logits_RV

    def read_context(self, number: int) -> Tensor:
        """Cross-attention of the rows' queries in one layer, (R, Q)."""
        query = self.buffers.cross_RG1D
        if self.shared:
            query = query.transpose(0, 2)
        mixed = functional.scaled_dot_product_attention(
            query, self.cross_keys[number], self.cross_values[number], attn_mask=self.mask_R11C, scale=1.0
        )
        return (mixed.transpose(0, 2) if self.shared else mixed).reshape(len(self.buffers.cross_RQ), -1)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        for cache in self.caches:
            move_rows_(cache[:, :, : self.length], target_R, source_R)
        if not self.shared:
            for cross in self.crosses:
                move_rows_(cross, target_R, source_R)
            if self.mask_N11C is not None:
                move_rows_(self.mask_N11C, target_R, source_R)
        self.keep_rows(num_rows)

    def keep_rows(self, num_rows: int) -> None:
        """Look at the first rows alone from now on."""
        heads = self.weights.num_heads
        self.rows = [cache[:num_rows] for cache in self.caches]
        self.keys = [cache[:, :heads] for cache in self.rows]
        self.values = [cache[:, heads:] for cache in self.rows]
        num_contexts = 1 if self.shared else num_rows
        self.mask_R11C = None if self.mask_N11C is None else self.mask_N11C[:num_contexts]
        self.cross_keys = [cross[:num_contexts, :heads] for cross in self.crosses]
        self.cross_values = [cross[:num_contexts, heads:] for cross in self.crosses]
        self.buffers = CrossActivations(self.weights, num_rows)
        self.logits_RV = self.logits_NV[:num_rows]
