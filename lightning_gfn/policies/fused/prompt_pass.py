"""Reads prompts for a fused decoder: keys and values of every layer, what all prompts begin with computed once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.padding import unpadded
from lightning_gfn.policies.fused.buffers import Activations, attend, turned_to
from lightning_gfn.policies.fused.decoder_weights import FusedWeights
from lightning_gfn.policies.fused.layers import AttentionForm, LayerWeights
from lightning_gfn.policies.passes.beginnings import shared_beginning
from lightning_gfn.policies.sampling.kv_cache import left_positions


def read_prompts(weights: FusedWeights, ids_PC: Tensor, mask_PC: Tensor | None) -> tuple[list[Tensor], Tensor, Tensor]:
    """Run all layers over prompts.

    Args:
        weights: the working copy.
        ids_PC: prompts, padded on the left.
        mask_PC: True on tokens; None if there is no padding.

    Returns:
        Keys, then values of each layer (P, 2K, C, D), the states at the last positions (P, H), and these positions.
    """
    num_prompts, length = ids_PC.shape
    if mask_PC is None:
        position_PC = torch.arange(length, device=ids_PC.device).expand(num_prompts, -1)
    else:
        position_PC = left_positions(mask_PC)
    windows = [layer.form.window for layer in weights.layers]
    # A window counts columns, of which some would be padding.
    is_narrow = any(window is not None and window < length for window in windows)
    rows = ids_PC.tolist() if mask_PC is None else unpadded(ids_PC, mask_PC)
    shared = 0 if is_narrow else shared_beginning(rows)
    if not shared:
        whole = PromptPass(weights, ids_PC, position_PC, mask_PC)
        return whole.states, whole.last_PH, position_PC[:, -1]
    paddings = [length - len(row) for row in rows]
    column_C = torch.arange(length, device=ids_PC.device)
    own_PC = column_C >= torch.tensor(paddings, device=ids_PC.device)[:, None] + shared
    begun = PromptPass(weights, ids_PC[:1, paddings[0] : paddings[0] + shared], column_C[None, :shared], None)
    rest = PromptPass(weights, ids_PC[:, shared:], position_PC[:, shared:], own_PC[:, shared:], begun.states)
    states = [placed(*layers, paddings) for layers in zip(begun.states, rest.states, strict=True)]
    return states, rest.last_PH, position_PC[:, -1]


def placed(before: Tensor, after_PGRD: Tensor, paddings: list[int]) -> Tensor:
    """States in the columns of the prompts, (P, 2K, S + R, D): those of the beginning behind the padding of each row.

    Args:
        before: of the beginning, (1, 2K, S, D).
        after_PGRD: of the columns from S on, with what is padding there.
        paddings: columns before each prompt, which hold zeros.
    """
    num_prompts, groups, num_after, width = after_PGRD.shape
    shared = before.shape[2]
    states = after_PGRD.new_zeros(num_prompts, groups, shared + num_after, width)
    states[:, :, shared:] = after_PGRD
    for row, padding in enumerate(paddings):
        states[row, :, padding : padding + shared] = before[0]
    return states


class PromptPass:
    """One pass over positions of prompts, or of what they add to a beginning that they share.

    ``states`` holds keys, then values of each layer, (P, 2K, C, D), ``last_PH`` the states at the last positions.

    Args:
        weights: the working copy.
        ids_PC: tokens, padded on the left.
        position_PC: their positions.
        mask_PC: True on tokens; None if there is no padding.
        before: keys and values of the beginning in each layer, (1, 2K, S, D), which every position sees.
    """

    def __init__(
        self,
        weights: FusedWeights,
        ids_PC: Tensor,
        position_PC: Tensor,
        mask_PC: Tensor | None,
        before: list[Tensor] | None = None,
    ) -> None:
        self.weights, self.mask_PC = weights, mask_PC
        self.num_prompts, self.length = ids_PC.shape
        self.num_before = 0 if before is None else before[0].shape[2]
        self.buffers = Activations(weights, ids_PC.numel())
        position_M = position_PC.reshape(-1)
        rotations = turned_to(weights.copies.rotations(self.num_before + self.length), position_M)
        masks = {form: self.mask(form) for form in {layer.form for layer in weights.layers}}
        x_MH = weights.embed(ids_PC.reshape(-1), position_M)
        begun = before if before is not None else [None] * len(weights.layers)
        self.states = [
            self.layer(layer, x_MH, rotations[layer.form.rotation], masks[layer.form], states)
            for layer, states in zip(weights.layers, begun, strict=True)
        ]
        self.last_PH = x_MH.view(self.num_prompts, self.length, -1)[:, -1]

    def mask(self, form: AttentionForm) -> Tensor | None:
        """What positions see, (P or 1, 1, C, S + C), bool; None if all that is before them."""
        narrow = form.window is not None and form.window < self.length
        mask_PC = self.mask_PC
        if mask_PC is None and not narrow and form.cap is None:
            return None
        device = self.weights.embedding_VH.device
        seen = torch.ones(self.length, self.length, dtype=torch.bool, device=device).tril()
        if narrow and form.window is not None:
            seen = seen.triu(1 - form.window)
        # A padding position sees itself, so that its softmax has a value.
        itself_CC = torch.eye(self.length, dtype=torch.bool, device=device)
        seen = seen[None, None] if mask_PC is None else (seen & mask_PC[:, None, None]) | itself_CC
        return functional.pad(seen, (self.num_before, 0), value=True)

    def layer(
        self, layer: LayerWeights, x_MH: Tensor, rotation_M1D: Tensor | None, mask: Tensor | None, before: Tensor | None
    ) -> Tensor:
        """Run one layer over all positions, in place on ``x_MH``; returns its keys and values (P, 2K, C, D)."""
        buffers, shape = self.buffers, self.weights.shape
        num_heads, num_kv_heads = shape.num_heads, shape.num_kv_heads
        buffers.project(layer, x_MH, rotation_M1D)
        states_PGCD = buffers.states_MGD.unflatten(0, (self.num_prompts, self.length)).transpose(1, 2)
        query, kept = states_PGCD.split((num_heads, 2 * num_kv_heads), dim=1)
        seen = kept if before is None else torch.cat([before.expand(self.num_prompts, -1, -1, -1), kept], dim=2)
        group = num_heads // num_kv_heads
        key, value = (seen.repeat_interleave(group, dim=1) if group > 1 else seen).chunk(2, dim=1)
        if mask is None:
            mixed_PGCD = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=layer.form.scale
            )
        else:
            mixed_PGCD = attend(query, key, value, mask, layer.form)
        buffers.add_attention_(layer, x_MH, mixed_PGCD.transpose(1, 2).reshape(x_MH.shape[0], -1))
        buffers.add_mlp_(layer, x_MH)
        return kept.clone()
