"""Incremental decoding of dense Llama-like models with few, large operations a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.llama_layers import LayerWeights, norm_heads
from lightning_gfn.policies.fused.llama_weights import FusedWeights
from lightning_gfn.policies.fused.operations import Normaliser, linear_
from lightning_gfn.policies.fused.working_linear import WorkingLinear
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.kv_cache import decoding_mask, left_positions, move_rows_


class Activations(Normaliser):
    """Memory for the activations of M positions, used by every layer in turn, and the views that a layer needs of it.

    Allocating and slicing cost more than the arithmetic of a single token, so both are done once for a batch. Behind
    the inputs of each product is room for what adapters make of them.

    Args:
        weights: the working copy.
        num_rows: M.
    """

    def __init__(self, weights: FusedWeights, num_rows: int) -> None:
        query, key, width = weights.shape.num_heads, weights.shape.num_kv_heads, weights.shape.head_width
        empty = weights.embedding_VH.new_empty
        super().__init__(weights.embedding_VH, weights.embedding_VH.shape[1], num_rows, weights.shape.epsilon)
        self.num_rows = num_rows
        self.rooms: dict[int, Tensor] = {}
        self.states_MA = empty(num_rows, (query + 2 * key) * width)
        self.states_MGD = self.states_MA.view(num_rows, query + 2 * key, width)
        self.turned_MGD = self.states_MGD[:, : query + key]
        self.kept_MGD = self.states_MGD[:, query:]
        # Query heads that share a key head stand in the place of query positions.
        self.query_MKGD = self.states_MGD[:, :query].view(num_rows, key, query // key, width)
        self.complex_MGD: Tensor | None = None
        if weights.dtype == torch.float32:
            self.complex_MGD = torch.view_as_complex(self.turned_MGD.view(num_rows, query + key, width // 2, 2))
        self.gate_up_MF = empty(num_rows, weights.layers[0].gate_up.weight_KO.shape[1])
        self.gate_MF, self.up_MF = self.gate_up_MF.chunk(2, dim=1)
        self.shape = weights.shape

    def inputs(self, linear: WorkingLinear, x_MI: Tensor) -> Tensor:
        """x with room for what adapters make of it; x itself if there are none."""
        if not linear.adapters:
            return x_MI
        width = linear.weight_KO.shape[0]
        if (room := self.rooms.get(width)) is None:
            # Zeros: matrix units read a few numbers beyond a row, times 0, which may not be NaN.
            room = self.rooms[width] = x_MI.new_zeros(self.num_rows, width)
        room[:, : linear.num_inputs] = x_MI
        return room

    def project(self, layer: LayerWeights, x_MH: Tensor, rotation_M1D: Tensor) -> None:
        """Queries, keys and values of ``x_MH`` into ``states``, queries and keys turned to their positions."""
        layer.qkv.forward_(self.states_MA, self.inputs(layer.qkv, self.normalise(x_MH)))
        turned = self.turned_MGD
        if layer.qk_norms is not None:
            turned.copy_(norm_heads(turned, layer.qk_norms, self.shape))
        if self.complex_MGD is not None:
            self.complex_MGD.mul_(rotation_M1D)
        else:
            wide = torch.view_as_complex(turned.float().view(*turned.shape[:2], -1, 2)).mul_(rotation_M1D)
            turned.copy_(torch.view_as_real(wide).flatten(2))

    def add_attention_(self, layer: LayerWeights, x_MH: Tensor, mixed_MA: Tensor) -> None:
        """x += W_o mixed, in place."""
        layer.out.add_(x_MH, self.inputs(layer.out, mixed_MA))

    def add_mlp_(self, layer: LayerWeights, x_MH: Tensor) -> None:
        """x += MLP(norm(x)), in place."""
        layer.gate_up.forward_(self.gate_up_MF, self.inputs(layer.gate_up, self.normalise(x_MH)))
        functional.silu(self.gate_MF, inplace=True).mul_(self.up_MF)
        layer.down.add_(x_MH, self.inputs(layer.down, self.gate_MF))


class FusedDecoder(Decoder):
    """Decodes from a ``FusedWeights`` copy; one cache tensor a layer holds the key heads, then the value heads.

    Args:
        weights: the working copy.
    """

    def __init__(self, weights: FusedWeights) -> None:
        self.weights = weights
        self.mask_R11L: Tensor | None = None

    # ---------------------------------------------------------------- prompts

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        weights = self.weights
        num_prompts, self.length = ids_PC.shape
        self.prompt_mask_PC = mask_PC
        if mask_PC is None:
            position_PC = torch.arange(self.length, device=ids_PC.device).expand(num_prompts, -1)
            attention_mask = None
        else:
            position_PC = left_positions(mask_PC)
            causal_CC = torch.ones(self.length, self.length, dtype=torch.bool, device=ids_PC.device).tril()
            # A padding position sees itself, so that its softmax has a value.
            itself_CC = torch.eye(self.length, dtype=torch.bool, device=ids_PC.device)
            attention_mask = (causal_CC & mask_PC[:, None, None]) | itself_CC
        self.position_R = position_PC[:, -1]
        self.buffers = Activations(weights, ids_PC.numel())
        rotation_M1D = weights.copies.rotations(self.length)[position_PC.reshape(-1)]
        x_MH = functional.embedding(ids_PC.reshape(-1), weights.embedding_VH)
        self.prompt_states = [
            self.prompt_layer(layer, x_MH, rotation_M1D, attention_mask, num_prompts) for layer in weights.layers
        ]
        last_PH = x_MH.view(num_prompts, self.length, -1)[:, -1]
        self.buffers = Activations(weights, num_prompts)
        self.logits_NV = weights.head_HV.new_empty(num_prompts, weights.head_HV.shape[1])
        return self.logits(last_PH)

    def prompt_layer(
        self, layer: LayerWeights, x_MH: Tensor, rotation_M1D: Tensor, mask: Tensor | None, num_prompts: int
    ) -> Tensor:
        """Run one layer over all prompt positions, in place on ``x_MH``; returns its keys and values (P, 2K, C, D)."""
        buffers, shape = self.buffers, self.weights.shape
        num_heads, num_kv_heads = shape.num_heads, shape.num_kv_heads
        buffers.project(layer, x_MH, rotation_M1D)
        states_PGCD = buffers.states_MGD.unflatten(0, (num_prompts, self.length)).transpose(1, 2)
        query, key, value = states_PGCD.split((num_heads, num_kv_heads, num_kv_heads), dim=1)
        group = num_heads // num_kv_heads
        if group > 1:
            key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        mixed_PGCD = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=1.0
        )
        buffers.add_attention_(layer, x_MH, mixed_PGCD.transpose(1, 2).reshape(x_MH.shape[0], -1))
        buffers.add_mlp_(layer, x_MH)
        return states_PGCD[:, num_heads:].clone()

    def expand(self, rows_N: Tensor, num_steps: int) -> None:
        """See ``Decoder.expand``."""
        weights, capacity = self.weights, self.length + num_steps
        self.caches = []
        for states in self.prompt_states:
            cache = states.new_empty(len(rows_N), states.shape[1], capacity, states.shape[3])
            cache[:, :, : self.length] = states.index_select(0, rows_N)
            self.caches.append(cache)
        del self.prompt_states
        self.rotation_L1D = weights.copies.rotations(capacity)
        self.position_R = self.position_R.index_select(0, rows_N)
        self.logits_NV = self.logits_NV.new_empty(len(rows_N), weights.head_HV.shape[1])
        self.keep_rows(len(rows_N))
        if self.prompt_mask_PC is not None:
            mask_NL = decoding_mask(self.prompt_mask_PC.index_select(0, rows_N), capacity)
            additive = torch.zeros(mask_NL.shape, dtype=weights.dtype, device=mask_NL.device)
            self.mask_R11L = additive.masked_fill_(~mask_NL, -torch.inf)[:, None, None]

    # ---------------------------------------------------------------- single tokens

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        slot = self.length
        self.length += 1
        self.position_R += 1
        rotation_R1D = self.rotation_L1D.index_select(0, self.position_R)
        mask = None if self.mask_R11L is None else self.mask_R11L[:, :, :, : self.length]
        x_RH = functional.embedding(tokens_R, self.weights.embedding_VH)
        buffers = self.buffers
        for layer, cache, key, value in zip(self.weights.layers, self.caches, self.keys, self.values, strict=True):
            buffers.project(layer, x_RH, rotation_R1D)
            cache.select(2, slot).copy_(buffers.kept_MGD)
            mixed = functional.scaled_dot_product_attention(
                buffers.query_MKGD,
                key.narrow(2, 0, self.length),
                value.narrow(2, 0, self.length),
                attn_mask=mask,
                scale=1.0,
            )
            buffers.add_attention_(layer, x_RH, mixed.reshape(x_RH.shape[0], -1))
            buffers.add_mlp_(layer, x_RH)
        return self.logits(x_RH)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        for cache in self.caches:
            move_rows_(cache[:, :, : self.length], target_R, source_R)
        self.position_R[target_R] = self.position_R[source_R]
        self.position_R = self.position_R[:num_rows]
        if self.mask_R11L is not None:
            self.mask_R11L[target_R] = self.mask_R11L[source_R]
            self.mask_R11L = self.mask_R11L[:num_rows]
        self.keep_rows(num_rows)

    def keep_rows(self, num_rows: int) -> None:
        """Look at the first rows alone from now on."""
        key_heads = self.weights.shape.num_kv_heads
        self.caches = [cache[:num_rows] for cache in self.caches]
        self.keys = [cache[:, :key_heads] for cache in self.caches]
        self.values = [cache[:, key_heads:] for cache in self.caches]
        self.buffers = Activations(self.weights, num_rows)
        self.logits_NV = self.logits_NV[:num_rows]

    def logits(self, x_MH: Tensor) -> Tensor:
        """Final norm and output layer, float32; the next call overwrites the result."""
        linear_(self.logits_NV, self.buffers.normalise_wide(x_MH), self.weights.head_HV, self.weights.head_bias_V)
        return self.logits_NV
