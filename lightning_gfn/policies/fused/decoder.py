"""Incremental decoding of dense decoder-only models with few, large operations a step."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.policies.fused.buffers import Activations, attend, turned_to
from lightning_gfn.policies.fused.decoder_weights import FusedWeights
from lightning_gfn.policies.fused.prompt_pass import read_prompts
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.kv_cache import decoding_mask, move_rows_, with_room


class FusedDecoder(Decoder):
    """Decodes from a ``FusedWeights`` copy; one cache tensor a layer holds the key heads, then the value heads.

    Args:
        weights: the working copy.
    """

    def __init__(self, weights: FusedWeights) -> None:
        self.weights, self.columns_K = weights, weights.columns_K

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        weights = self.weights
        num_prompts, self.length = ids_PC.shape
        self.prompt_mask_PC = mask_PC
        self.prompt_states, last_PH, self.position_R = read_prompts(weights, ids_PC, mask_PC)
        self.buffers = Activations(weights, num_prompts)
        self.logits_RV = weights.new_logits(num_prompts)
        return self.logits(last_PH)

    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        """See ``Decoder.expand``."""
        weights, capacity, num_rows = self.weights, self.length + num_steps, len(rows_N)
        room = num_rows if room is None else room
        self.caches = []
        for states in self.prompt_states:
            cache = states.new_empty(room, states.shape[1], capacity, states.shape[3])
            cache[:num_rows, :, : self.length] = states.index_select(0, rows_N)
            self.caches.append(cache)
        del self.prompt_states
        self.rotations = weights.copies.rotations(capacity)
        self.position_N = with_room(self.position_R.index_select(0, rows_N), room)
        self.logits_NV = self.logits_RV.new_empty(room, weights.head_HV.shape[1])
        self.mask_N11L: Tensor | None = None
        if self.prompt_mask_PC is not None:
            mask_NL = decoding_mask(self.prompt_mask_PC.index_select(0, rows_N), capacity)
            additive = torch.zeros(mask_NL.shape, dtype=weights.dtype, device=mask_NL.device)
            self.mask_N11L = with_room(additive.masked_fill_(~mask_NL, -torch.inf)[:, None, None], room)
        self.keep_rows(num_rows)

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        slot = self.length
        self.length += 1
        self.position_R += 1
        rotations = turned_to(self.rotations, self.position_R)
        x_RH = self.weights.embed(tokens_R, self.position_R)
        buffers = self.buffers
        for layer, cache, key, value in zip(self.weights.layers, self.rows, self.keys, self.values, strict=True):
            form = layer.form
            buffers.project(layer, x_RH, rotations[form.rotation])
            cache.select(2, slot).copy_(buffers.kept_MGD)
            first = 0 if form.window is None else max(0, self.length - form.window)
            seen = self.length - first
            mask = None if self.mask_R11L is None else self.mask_R11L.narrow(3, first, seen)
            mixed = attend(buffers.query_MKGD, key.narrow(2, first, seen), value.narrow(2, first, seen), mask, form)
            buffers.add_attention_(layer, x_RH, mixed.reshape(x_RH.shape[0], -1))
            buffers.add_mlp_(layer, x_RH)
        return self.logits(x_RH)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        for cache in self.caches:
            move_rows_(cache[:, :, : self.length], target_R, source_R)
        for tensor in (self.position_N, self.mask_N11L):
            if tensor is not None:
                move_rows_(tensor, target_R, source_R)
        self.keep_rows(num_rows)

    def keep_rows(self, num_rows: int) -> None:
        """Look at the first rows alone from now on."""
        key_heads = self.weights.shape.num_kv_heads
        self.rows = [cache[:num_rows] for cache in self.caches]
        self.keys = [cache[:, :key_heads] for cache in self.rows]
        self.values = [cache[:, key_heads:] for cache in self.rows]
        self.position_R = self.position_N[:num_rows]
        self.mask_R11L = None if self.mask_N11L is None else self.mask_N11L[:num_rows]
        self.logits_RV = self.logits_NV[:num_rows]
        self.buffers = Activations(self.weights, num_rows)

    def logits(self, x_MH: Tensor) -> Tensor:
        """Final norm and output layer, float32; the next call overwrites the result."""
        self.weights.write_logits(self.logits_RV, self.buffers.normalise_wide(x_MH))
        return self.logits_RV
