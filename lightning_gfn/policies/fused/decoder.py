"""Incremental decoding of dense decoder-only models with few, large operations a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused.decoder_weights import FusedWeights
from lightning_gfn.policies.fused.layers import AttentionForm, LayerWeights, norm_heads
from lightning_gfn.policies.fused.norms import Norm
from lightning_gfn.policies.fused.operations import Normaliser
from lightning_gfn.policies.fused.working_linear import WorkingLinear
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.kv_cache import decoding_mask, left_positions, move_rows_, with_room


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
        hidden, shape = weights.embedding_VH.shape[1], weights.shape
        super().__init__(weights.embedding_VH, hidden, num_rows, shape.epsilon, centred=shape.centred)
        self.num_rows = num_rows
        self.rooms: dict[int, Tensor] = {}
        self.states_MA = empty(num_rows, (query + 2 * key) * width)
        self.states_MGD = self.states_MA.view(num_rows, query + 2 * key, width)
        self.turned_MGD = self.states_MGD[:, : query + key]
        self.kept_MGD = self.states_MGD[:, query:]
        # Query heads that share a key head stand in the place of query positions.
        self.query_MKGD = self.states_MGD[:, :query].view(num_rows, key, query // key, width)
        self.complex_MGD: Tensor | None = None
        if weights.dtype == torch.float32 and width % 2 == 0:
            self.complex_MGD = torch.view_as_complex(self.turned_MGD.view(num_rows, query + key, width // 2, 2))
        self.inner_MF = empty(num_rows, weights.layers[0].up.weight_KO.shape[1])
        self.gate_MF, *self.rest = self.inner_MF.chunk(1 + shape.is_gated, dim=1)
        self.update_MH = empty(num_rows, hidden) if weights.layers[0].post_norms[0] is not None else None
        self.shape = shape

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

    def project(self, layer: LayerWeights, x_MH: Tensor, rotation_M1D: Tensor | None) -> None:
        """Queries, keys and values of ``x_MH`` into ``states``, queries and keys turned to their positions."""
        layer.qkv.forward_(self.states_MA, self.inputs(layer.qkv, self.normalise(x_MH)))
        turned = self.turned_MGD
        if layer.qk_norms is not None:
            turned.copy_(norm_heads(turned, layer.qk_norms, self.shape))
        if rotation_M1D is None:
            return
        if self.complex_MGD is not None:
            self.complex_MGD.mul_(rotation_M1D)
        else:
            wide = torch.view_as_complex(turned.float().view(*turned.shape[:2], -1, 2)).mul_(rotation_M1D)
            turned.copy_(torch.view_as_real(wide).flatten(2))

    def add_attention_(self, layer: LayerWeights, x_MH: Tensor, mixed_MA: Tensor) -> None:
        """x += post₁(W_o mixed), in place."""
        self.add_(x_MH, layer.out, mixed_MA, layer.post_norms[0])

    def add_mlp_(self, layer: LayerWeights, x_MH: Tensor) -> None:
        """x += post₂(MLP(norm(x))), in place."""
        layer.up.forward_(self.inner_MF, self.inputs(layer.up, self.normalise(x_MH)))
        self.shape.activation.forward_(self.gate_MF)
        for up_MF in self.rest:
            self.gate_MF.mul_(up_MF)
        self.add_(x_MH, layer.down, self.gate_MF, layer.post_norms[1])

    def add_(self, x_MH: Tensor, linear: WorkingLinear, inputs_MI: Tensor, post_norm: Norm | None) -> None:
        """Add outputs of a layer, normalised if there is a norm, to x."""
        inputs_MK = self.inputs(linear, inputs_MI)
        if post_norm is None or self.update_MH is None:
            linear.add_(x_MH, inputs_MK)
        else:
            linear.forward_(self.update_MH, inputs_MK)
            x_MH += post_norm(self.update_MH.float()).to(x_MH.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, form: AttentionForm) -> Tensor:
    """softmax(c · tanh(scale · Q Kᵀ / c) + mask) V, without tanh if there is no bound.

    Args:
        query: (rows, heads, queries, D).
        key: (rows, heads, L, D).
        value: (rows, heads, L, D).
        mask: added to scores, or bool, True on what is seen; None to see everything.
        form: how the layer attends.
    """
    if form.cap is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=form.scale)
    scores = (query @ key.transpose(2, 3)).mul_(form.scale / form.cap).tanh_().mul_(form.cap)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
    return scores.softmax(-1) @ value


class FusedDecoder(Decoder):
    """Decodes from a ``FusedWeights`` copy; one cache tensor a layer holds the key heads, then the value heads.

    Args:
        weights: the working copy.
    """

    def __init__(self, weights: FusedWeights) -> None:
        self.weights, self.columns_K = weights, weights.columns_K

    # ---------------------------------------------------------------- prompts

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        weights = self.weights
        num_prompts, self.length = ids_PC.shape
        self.prompt_mask_PC = mask_PC
        if mask_PC is None:
            position_PC = torch.arange(self.length, device=ids_PC.device).expand(num_prompts, -1)
        else:
            position_PC = left_positions(mask_PC)
        self.position_R = position_PC[:, -1]
        self.buffers = Activations(weights, ids_PC.numel())
        position_M = position_PC.reshape(-1)
        rotations = turned_to(weights.copies.rotations(self.length), position_M)
        masks = {form: self.prompt_mask(form) for form in {layer.form for layer in weights.layers}}
        x_MH = weights.embed(ids_PC.reshape(-1), position_M)
        self.prompt_states = [
            self.prompt_layer(layer, x_MH, rotations[layer.form.rotation], masks[layer.form], num_prompts)
            for layer in weights.layers
        ]
        last_PH = x_MH.view(num_prompts, self.length, -1)[:, -1]
        self.buffers = Activations(weights, num_prompts)
        self.logits_RV = weights.new_logits(num_prompts)
        return self.logits(last_PH)

    def prompt_mask(self, form: AttentionForm) -> Tensor | None:
        """What prompt positions see, (P or 1, 1, C, C), bool; None if all that is before them."""
        narrow = form.window is not None and form.window < self.length
        mask_PC = self.prompt_mask_PC
        if mask_PC is None and not narrow and form.cap is None:
            return None
        device = self.position_R.device
        seen = torch.ones(self.length, self.length, dtype=torch.bool, device=device).tril()
        if narrow and form.window is not None:
            seen = seen.triu(1 - form.window)
        # A padding position sees itself, so that its softmax has a value.
        itself_CC = torch.eye(self.length, dtype=torch.bool, device=device)
        return seen[None, None] if mask_PC is None else (seen & mask_PC[:, None, None]) | itself_CC

    def prompt_layer(
        self, layer: LayerWeights, x_MH: Tensor, rotation_M1D: Tensor | None, mask: Tensor | None, num_prompts: int
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
        if mask is None:
            mixed_PGCD = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=layer.form.scale
            )
        else:
            mixed_PGCD = attend(query, key, value, mask, layer.form)
        buffers.add_attention_(layer, x_MH, mixed_PGCD.transpose(1, 2).reshape(x_MH.shape[0], -1))
        buffers.add_mlp_(layer, x_MH)
        return states_PGCD[:, num_heads:].clone()

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

    # ---------------------------------------------------------------- single tokens

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


def turned_to(rotations: dict[str | None, Tensor | None], position_M: Tensor) -> dict[str | None, Tensor | None]:
    """Factors of each rotation at these positions."""
    return {name: None if table is None else table.index_select(0, position_M) for name, table in rotations.items()}
