"""Incremental decoding of dense Llama-like models with few, large operations a step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.fused_weights import FusedLayer, FusedWeights
from lightning_gfn.policies.generation import Decoder
from lightning_gfn.policies.kv_cache import decoding_mask, left_positions, move_rows_


def linear(x_MI: Tensor, weight_IO: Tensor, bias_O: Tensor | None) -> Tensor:
    """x W + b."""
    return torch.mm(x_MI, weight_IO) if bias_O is None else torch.addmm(bias_O, x_MI, weight_IO)


def add_linear_(y_MO: Tensor, x_MI: Tensor, weight_IO: Tensor, bias_O: Tensor | None) -> None:
    """y += x W + b, in place."""
    y_MO.addmm_(x_MI, weight_IO)
    if bias_O is not None:
        y_MO += bias_O


def normalise(x_MH: Tensor, epsilon_1: Tensor) -> Tensor:
    """RMS norm without a weight: x / sqrt(mean(x²) + ε). The library's own runs as six operations on CPU."""
    norm_M1 = torch.linalg.vector_norm(x_MH, dim=1, keepdim=True, dtype=torch.float32)
    scale_M1 = torch.addcmul(epsilon_1, norm_M1, norm_M1, value=1 / x_MH.shape[1]).rsqrt_()
    return (x_MH * scale_M1).to(x_MH.dtype)


class FusedDecoder(Decoder):
    """Decodes from a ``FusedWeights`` copy; one cache tensor a layer holds the key heads, then the value heads.

    Args:
        weights: the working copy.
    """

    def __init__(self, weights: FusedWeights) -> None:
        self.weights = weights
        self.epsilon_1 = torch.full((1,), weights.epsilon, device=weights.head_HV.device)
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
        rotation_M1D = weights.rotations(self.length)[position_PC.reshape(-1)]
        x_MH = functional.embedding(ids_PC.reshape(-1), weights.embedding_VH)
        self.prompt_states = [
            self.prompt_layer(layer, x_MH, rotation_M1D, attention_mask, num_prompts) for layer in weights.layers
        ]
        return self.logits(x_MH.view(num_prompts, self.length, -1)[:, -1])

    def prompt_layer(
        self, layer: FusedLayer, x_MH: Tensor, rotation_M1D: Tensor, mask: Tensor | None, num_prompts: int
    ) -> Tensor:
        """Run one layer over all prompt positions, in place on ``x_MH``; returns its keys and values (P, 2K, C, D)."""
        weights = self.weights
        states_MGD = self.rotated_states(layer, x_MH, rotation_M1D)
        states_PGCD = states_MGD.view(num_prompts, self.length, *states_MGD.shape[1:]).transpose(1, 2)
        query, key, value = states_PGCD.split((weights.num_heads, weights.num_kv_heads, weights.num_kv_heads), dim=1)
        group = weights.num_heads // weights.num_kv_heads
        if group > 1:
            key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
        mixed_PGCD = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        add_linear_(x_MH, mixed_PGCD.transpose(1, 2).reshape(x_MH.shape[0], -1), layer.out_AH, layer.out_bias_H)
        self.add_mlp_(layer, x_MH)
        return states_PGCD[:, weights.num_heads :]

    def expand(self, rows_N: Tensor, num_steps: int) -> None:
        """See ``Decoder.expand``."""
        weights, capacity = self.weights, self.length + num_steps
        self.caches = []
        for states in self.prompt_states:
            cache = states.new_empty(len(rows_N), states.shape[1], capacity, states.shape[3])
            cache[:, :, : self.length] = states.index_select(0, rows_N)
            self.caches.append(cache)
        del self.prompt_states
        self.logits_NV = states.new_empty(len(rows_N), weights.head_HV.shape[1])
        self.rotation_L1D = weights.rotations(capacity)
        self.position_R = self.position_R.index_select(0, rows_N)
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
        for layer, cache in zip(self.weights.layers, self.caches, strict=True):
            self.token_layer(layer, cache, x_RH, rotation_R1D, mask, slot)
        return self.logits(x_RH, self.logits_NV[: len(x_RH)])

    def token_layer(
        self, layer: FusedLayer, cache: Tensor, x_RH: Tensor, rotation_R1D: Tensor, mask: Tensor | None, slot: int
    ) -> None:
        """Run one layer over one new position of every row, in place on ``x_RH`` and ``cache``."""
        weights = self.weights
        num_heads, num_kv_heads = weights.num_heads, weights.num_kv_heads
        states_RGD = self.rotated_states(layer, x_RH, rotation_R1D)
        cache.select(2, slot).copy_(states_RGD[:, num_heads:])
        # Query heads that share a key head stand in the place of query positions.
        query = states_RGD[:, :num_heads].view(x_RH.shape[0], num_kv_heads, -1, weights.head_width)
        key, value = cache.narrow(2, 0, self.length).split(num_kv_heads, dim=1)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        add_linear_(x_RH, mixed.reshape(x_RH.shape[0], -1), layer.out_AH, layer.out_bias_H)
        self.add_mlp_(layer, x_RH)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        for cache in self.caches:
            move_rows_(cache[:, :, : self.length], target_R, source_R)
        self.caches = [cache[:num_rows] for cache in self.caches]
        self.position_R[target_R] = self.position_R[source_R]
        self.position_R = self.position_R[:num_rows]
        if self.mask_R11L is not None:
            self.mask_R11L[target_R] = self.mask_R11L[source_R]
            self.mask_R11L = self.mask_R11L[:num_rows]

    # ---------------------------------------------------------------- shared

    def rotated_states(self, layer: FusedLayer, x_MH: Tensor, rotation_M1D: Tensor) -> Tensor:
        """Queries, keys and values (M, heads + 2 · key heads, D), queries and keys turned to their positions."""
        weights = self.weights
        normed = normalise(x_MH, self.epsilon_1)
        states = linear(normed, layer.qkv_HA, layer.qkv_bias_A).view(x_MH.shape[0], -1, weights.head_width)
        turned = states[:, : weights.num_heads + weights.num_kv_heads]
        if layer.qk_norm_GD is not None:
            turned.copy_(functional.rms_norm(turned, (weights.head_width,), eps=weights.epsilon).mul_(layer.qk_norm_GD))
        if states.dtype == torch.float32:
            torch.view_as_complex(turned.view(*turned.shape[:2], -1, 2)).mul_(rotation_M1D)
        else:
            wide = torch.view_as_complex(turned.float().view(*turned.shape[:2], -1, 2)).mul_(rotation_M1D)
            turned.copy_(torch.view_as_real(wide).flatten(2))
        return states

    def add_mlp_(self, layer: FusedLayer, x_MH: Tensor) -> None:
        """x += MLP(norm(x)), in place."""
        normed = normalise(x_MH, self.epsilon_1)
        gate, up = linear(normed, layer.gate_up_HF, layer.gate_up_bias_F).chunk(2, dim=1)
        add_linear_(x_MH, functional.silu(gate).mul_(up), layer.down_FH, layer.down_bias_H)

    def logits(self, x_MH: Tensor, out_MV: Tensor | None = None) -> Tensor:
        """Final norm and output layer, float32; into ``out_MV`` where given, which the next call overwrites."""
        weights = self.weights
        normed = normalise(x_MH, self.epsilon_1)
        if weights.head_bias_V is not None:
            return torch.addmm(weights.head_bias_V, normed, weights.head_HV, out=out_MV).float()
        return torch.mm(normed, weights.head_HV, out=out_MV).float()
