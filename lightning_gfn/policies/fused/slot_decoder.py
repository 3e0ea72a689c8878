"""Decoding of dense decoder-only models in slots, each at a position of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.policies.fused.buffers import Activations, attend, turned_to
from lightning_gfn.policies.fused.decoder import FusedDecoder
from lightning_gfn.policies.fused.decoder_weights import FusedWeights
from lightning_gfn.policies.sampling.continuous import SlotDecoder


class FusedSlotDecoder(SlotDecoder):
    """Decodes from a ``FusedWeights`` copy; the cache of a layer holds positions, then key heads and value heads.

    A slot holds no padding: its positions count from 0, and a mask hides what lies beyond them. So every shape is
    that of the slots and of the window, and a step can be captured.

    Args:
        weights: the working copy.
    """

    def __init__(self, weights: FusedWeights) -> None:
        self.weights, self.columns_K = weights, weights.columns_K

    def open(self, num_slots: int, capacity: int) -> None:
        """See ``SlotDecoder.open``."""
        weights, shape = self.weights, self.weights.shape
        size = (num_slots, capacity, 2 * shape.num_kv_heads, shape.head_width)
        # Zeros: a hidden position counts 0 times its value, which may not be NaN.
        self.caches = [weights.embedding_VH.new_zeros(size) for _ in weights.layers]
        self.length_S = torch.zeros(num_slots, dtype=torch.int64, device=weights.embedding_VH.device)
        self.rotations = weights.copies.rotations(capacity)
        self.capacity = capacity
        self.keep_slots(num_slots)

    def keep_slots(self, num_slots: int) -> None:
        """Make memory for the activations of so many slots."""
        weights = self.weights
        self.buffers = Activations(weights, num_slots)
        self.logits_SV = weights.new_logits(num_slots)
        self.first_S = torch.arange(num_slots, device=self.length_S.device) * self.capacity

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``SlotDecoder.prefill``."""
        reader = FusedDecoder(self.weights)
        logits_PV = reader.prefill(ids_PC, mask_PC)
        self.prompt_states = reader.prompt_states
        num_prompts, width = ids_PC.shape
        self.prompt_lengths_P = mask_PC.sum(1) if mask_PC is not None else ids_PC.new_full((num_prompts,), width)
        return logits_PV

    def admit(self, prompts_A: Tensor, slots_A: Tensor) -> None:
        """See ``SlotDecoder.admit``."""
        lengths_A = self.prompt_lengths_P[prompts_A]
        width = self.prompt_states[0].shape[2]
        position_C = torch.arange(width, device=lengths_A.device)
        # The padding on the left moves behind the prompt, where it is hidden and then written over.
        from_AC = (position_C + (width - lengths_A)[:, None]) % width
        for cache, states in zip(self.caches, self.prompt_states, strict=True):
            cache[slots_A, :width] = states.transpose(1, 2)[prompts_A[:, None], from_AC]
        self.length_S[slots_A] = lengths_A

    def step(self, tokens_S: Tensor, window: int) -> Tensor:
        """See ``SlotDecoder.step``."""
        weights, buffers, window = self.weights, self.buffers, min(window, self.capacity)
        num_kv_heads = weights.shape.num_kv_heads
        # A slot without a row may have run to the end of its memory.
        slot_S = self.length_S.clamp(max=self.capacity - 1)
        rotations = turned_to(self.rotations, slot_S)
        place_S = self.first_S + slot_S
        windows = {layer.form.window for layer in weights.layers}
        masks = {narrow: self.mask(slot_S, window, narrow) for narrow in windows}
        x_SH = weights.embed(tokens_S, slot_S)
        for layer, cache in zip(weights.layers, self.caches, strict=True):
            form = layer.form
            buffers.project(layer, x_SH, rotations[form.rotation])
            cache.flatten(0, 1).index_copy_(0, place_S, buffers.kept_MGD)
            seen_SGLD = cache[:, :window].transpose(1, 2)
            key, value = seen_SGLD[:, :num_kv_heads], seen_SGLD[:, num_kv_heads:]
            mixed = attend(buffers.query_MKGD, key, value, masks[form.window], form)
            buffers.add_attention_(layer, x_SH, mixed.reshape(x_SH.shape[0], -1))
            buffers.add_mlp_(layer, x_SH)
        self.length_S += 1
        weights.write_logits(self.logits_SV, buffers.normalise_wide(x_SH))
        return self.logits_SV

    def mask(self, slot_S: Tensor, window: int, narrow: int | None) -> Tensor:
        """What is added to the scores of the first positions, (S, 1, 1, L).

        Args:
            slot_S: position of each slot's token.
            window: L.
            narrow: positions that a token sees, its own among them; None for all before it.
        """
        position_L = torch.arange(window, device=slot_S.device)
        hidden_SL = position_L > slot_S[:, None]
        if narrow is not None:
            hidden_SL |= position_L <= slot_S[:, None] - narrow
        mask_SL = torch.zeros_like(hidden_SL, dtype=self.weights.dtype)
        return mask_SL.masked_fill_(hidden_SL, -torch.inf)[:, None, None]

    def keep(self, slots_K: Tensor) -> None:
        """See ``SlotDecoder.keep``."""
        self.caches = [cache[slots_K] for cache in self.caches]
        self.length_S = self.length_S[slots_K]
        self.keep_slots(len(slots_K))
