"""Causal attention of packed rows to their contexts and to themselves, by batched products, with its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.policies.fused.layers import AttentionForm
from lightning_gfn.policies.numerics.processor import cached_rows, narrow_products
from lightning_gfn.policies.teacher_forcing.packing import Block


class _BlockHeads:
    """Heads before positions, for one block: B contexts, K sequences of T tokens each, J key heads of width D.

    The G query heads that share a key head stand in the place of query positions. A context and its sequences are L
    keys.

    Args:
        block: the block.
        num_heads: J · G.
        num_kv_heads: J.
        form: how the layer attends.
        bias_HQL: added to scores; None if nothing is.
    """

    def __init__(
        self, block: Block, num_heads: int, num_kv_heads: int, form: AttentionForm, bias_HQL: Tensor | None
    ) -> None:
        self.bias_HQL = bias_HQL
        self.block, self.num_kv_heads, self.group = block, num_kv_heads, num_heads // num_kv_heads
        self.cap, self.factor = form.cap, form.scale if form.cap is None else form.scale / form.cap
        self.batch, samples, length = block.shape
        self.queries = samples * length
        self.num_queries = self.group * self.queries
        self.context = 0 if block.context_BC is None else block.context_BC.shape[1]

    def own(self, x_SGD: Tensor) -> Tensor:
        """The block's positions (B, K · T, …); places without a position hold 0."""
        x = x_SGD[self.block.start : self.block.stop]
        if self.block.place_S is not None:
            x = x.new_zeros(self.batch * self.queries, *x.shape[1:]).index_copy_(0, self.block.place_S, x)
        return x.reshape(self.batch, self.queries, *x.shape[1:])

    def gather(self, x_SGD: Tensor) -> Tensor:
        """(S, J · G, D) → (B · J, G · K · T, D)."""
        x = self.own(x_SGD).unflatten(2, (self.num_kv_heads, -1)).permute(0, 2, 3, 1, 4)
        return x.reshape(self.batch * self.num_kv_heads, -1, x.shape[-1])

    def gather_keys(self, x_SJD: Tensor) -> Tensor:
        """Positions of contexts, then own ones, (…, J, D) → (B · J, L, D)."""
        if not self.block.sees_itself:
            return x_SJD[self.block.context_BC].transpose(1, 2).flatten(0, 1)
        out = x_SJD.new_empty(self.batch, self.num_kv_heads, self.context + self.queries, x_SJD.shape[2])
        if self.block.context_BC is not None:
            out[:, :, : self.context] = x_SJD[self.block.context_BC].transpose(1, 2)
        out[:, :, self.context :] = self.own(x_SJD).transpose(1, 2)
        return out.flatten(0, 1)

    def scatter(self, out_SGD: Tensor, x_XQD: Tensor) -> None:
        """The reverse of ``gather``, written into ``out``."""
        x = x_XQD.view(self.batch, self.num_kv_heads, -1, self.queries, x_XQD.shape[2]).permute(0, 3, 1, 2, 4)
        own = out_SGD[self.block.start : self.block.stop]
        if self.block.place_S is None:
            own.view(x.shape).copy_(x)
        else:
            own.copy_(x.reshape(-1, *own.shape[1:]).index_select(0, self.block.place_S))

    def scatter_keys(self, out_SJD: Tensor, x_XLD: Tensor) -> None:
        """The reverse of ``gather_keys``: own positions are written, those of contexts added."""
        x = x_XLD.view(self.batch, self.num_kv_heads, -1, x_XLD.shape[2])
        if self.block.sees_itself:
            self.scatter(out_SJD, x[:, :, self.context :].flatten(0, 1))
        if self.block.context_BC is not None:
            before = x[:, :, : self.context].transpose(1, 2).flatten(0, 1).to(out_SJD.dtype)
            out_SJD.index_add_(0, self.block.context_BC.reshape(-1), before)

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """Some of the B contexts at a time, and their B · J heads, so that their scores stay in the cache."""
        group_bytes = 8 * self.num_kv_heads * self.num_queries * (self.context + self.queries * self.block.sees_itself)
        for rows in cached_rows(self.batch, group_bytes, self.block.mask_BQL.device):
            yield rows, slice(rows.start * self.num_kv_heads, rows.stop * self.num_kv_heads)

    def product(self, left_XQD: Tensor, right_XDL: Tensor, out: Tensor | None = None) -> Tensor:
        """factor · left right, of each head."""
        out = left_XQD.new_empty(*left_XQD.shape[:2], right_XDL.shape[2]) if out is None else out
        return out.baddbmm_(left_XQD, right_XDL, beta=0, alpha=self.factor)

    def softmax(self, query_XQD: Tensor, key_XLD: Tensor, mask_BQL: Tensor) -> Tensor:
        """softmax(c · tanh(factor · Q Kᵀ)), (B · J, G · K · T, L), in the type of the queries."""
        scores = self.product(query_XQD, key_XLD.transpose(1, 2))
        if self.cap is not None:
            scores.tanh_().mul_(self.cap)
        by_head = scores.view(-1, self.num_kv_heads * self.group, self.queries, scores.shape[2])
        if self.bias_HQL is not None:
            by_head += self.bias_HQL
        by_head[..., scores.shape[2] - mask_BQL.shape[2] :] += mask_BQL[:, None]
        return torch.softmax(scores, -1, out=scores)

    def forward(self, query_SHD: Tensor, key_SJD: Tensor, v_SJD: Tensor, out_SHD: Tensor) -> Tensor:
        """Write the block's output; returns its softmax in the type of the values."""
        query, key, value = self.gather(query_SHD), self.gather_keys(key_SJD), self.gather_keys(v_SJD)
        p = value.new_empty(*query.shape[:2], key.shape[1])
        mixed = value.new_empty(query.shape)
        mask_BQL = self.block.mask_BQL.expand(self.batch, -1, -1)
        for batch, heads in self.parts():
            with narrow_products(v_SJD.dtype, v_SJD.device):
                p[heads] = self.softmax(query[heads], key[heads], mask_BQL[batch])
            torch.bmm(p[heads], value[heads], out=mixed[heads])
        self.scatter(out_SHD, mixed)
        return p

    def backward(
        self,
        p: Tensor,
        inputs: tuple[Tensor, Tensor, Tensor],
        grad_SHD: Tensor,
        outputs: tuple[Tensor, Tensor, Tensor],
        *,
        of_bias: Tensor | None = None,
    ) -> None:
        """Write the gradients of the block's own positions, and add those of its contexts.

        Args:
            p: the softmax.
            inputs: queries, keys and values, in the type of the values.
            grad_SHD: gradient of the output.
            outputs: gradients of queries, keys and values.
            of_bias: gradient of the bias, to be added to; None if it is not wanted.
        """
        (query_SHD, key_SJD, v_SJD), (grad_query, grad_key, grad_v) = inputs, outputs
        grad, query = self.gather(grad_SHD), self.gather(query_SHD)
        key, value = self.gather_keys(key_SJD), self.gather_keys(v_SJD)
        of_query, of_key, of_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for _, heads in self.parts():
            torch.bmm(p[heads].transpose(1, 2), grad[heads], out=of_value[heads])
            grad_p = torch.bmm(grad[heads], value[heads].transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(grad_p, p[heads], -1, p.dtype)
            if of_bias is not None:
                of_bias += grad_scores.view(-1, *of_bias.shape).sum(0, dtype=of_bias.dtype)
            if self.cap is not None:
                bounded = self.product(query[heads], key[heads].transpose(1, 2)).tanh_()
                grad_scores = torch.ops.aten.tanh_backward(grad_scores, bounded).mul_(self.cap)
            self.product(grad_scores.transpose(1, 2), query[heads], out=of_key[heads])
            self.product(grad_scores, key[heads], out=of_query[heads])
        self.scatter_keys(grad_v, of_value)
        self.scatter_keys(grad_key, of_key)
        self.scatter(grad_query, of_query)


@dataclass(frozen=True)
class Scene:
    """What attends to what in one layer.

    Args:
        blocks: contexts first.
        form: how the layer attends.
        biases: what is added to the scores of each block, (heads, queries, keys), with gradient; none if empty.
    """

    blocks: list[Block]
    form: AttentionForm
    biases: tuple[Tensor, ...] = ()

    def heads(self, num_heads: int, num_kv_heads: int, biases: Sequence[Tensor]) -> list[_BlockHeads]:
        """The blocks with their heads; biases as a ``Function`` receives them."""
        each = biases if biases else [None] * len(self.blocks)
        return [
            _BlockHeads(block, num_heads, num_kv_heads, self.form, bias)
            for block, bias in zip(self.blocks, each, strict=True)
        ]


class _PackedAttention(torch.autograd.Function):
    """softmax(Q Kᵀ) V of every block; the softmax is kept in the type of the values."""

    @staticmethod
    def forward(ctx: Any, qk_SGD: Tensor, v_SJD: Tensor, scene: Scene, keep: bool, *biases: Tensor) -> Tensor:
        num_heads = qk_SGD.shape[1] - v_SJD.shape[1]
        query_SHD, key_SJD = qk_SGD.split((num_heads, v_SJD.shape[1]), dim=1)
        out_SHD = v_SJD.new_empty(v_SJD.shape[0], num_heads, v_SJD.shape[2])
        ctx.heads = scene.heads(num_heads, v_SJD.shape[1], biases)
        kept = []
        for heads in ctx.heads:
            p = heads.forward(query_SHD, key_SJD, v_SJD, out_SHD)
            if keep:
                kept.append(p)
        ctx.num_heads = num_heads
        ctx.save_for_backward(qk_SGD, v_SJD, *kept)
        return out_SHD

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_SHD,) = grad_outputs
        qk_SGD, v_SJD, *kept = ctx.saved_tensors
        parts = (ctx.num_heads, v_SJD.shape[1])
        grad_qk, grad_v = torch.empty_like(qk_SGD), torch.empty_like(v_SJD)
        inputs = (*qk_SGD.to(v_SJD.dtype).split(parts, dim=1), v_SJD)
        outputs = (*grad_qk.split(parts, dim=1), grad_v)
        of_biases: list[Tensor | None] = [None] * len(ctx.heads)
        if any(wanted := ctx.needs_input_grad[4:]):
            of_biases = [torch.zeros_like(heads.bias_HQL) for heads in ctx.heads]
        # Contexts come first: what follows adds to theirs.
        for heads, p, of_bias in zip(ctx.heads, kept, of_biases, strict=True):
            heads.backward(p, inputs, grad_SHD, outputs, of_bias=of_bias)
        return grad_qk, grad_v, None, None, *of_biases[: len(wanted)]


class _CrossAttention(torch.autograd.Function):
    """The same of queries that see nothing but contexts, which stand among other positions."""

    @staticmethod
    def forward(ctx: Any, query_SHD: Tensor, key_EHD: Tensor, v_EHD: Tensor, scene: Scene, keep: bool) -> Tensor:
        out_SHD = v_EHD.new_empty(query_SHD.shape)
        ctx.heads = scene.heads(query_SHD.shape[1], v_EHD.shape[1], ())
        kept = []
        for heads in ctx.heads:
            p = heads.forward(query_SHD, key_EHD, v_EHD, out_SHD)
            if keep:
                kept.append(p)
        ctx.save_for_backward(query_SHD, key_EHD, v_EHD, *kept)
        return out_SHD

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_SHD,) = grad_outputs
        query_SHD, key_EHD, v_EHD, *kept = ctx.saved_tensors
        outputs = torch.empty_like(query_SHD), torch.zeros_like(key_EHD), torch.zeros_like(v_EHD)
        inputs = query_SHD.to(v_EHD.dtype), key_EHD.to(v_EHD.dtype), v_EHD
        for heads, p in zip(ctx.heads, kept, strict=True):
            heads.backward(p, inputs, grad_SHD, outputs)
        return *outputs, None, None


def packed_attention(qk_SGD: Tensor, v_SJD: Tensor, scene: Scene) -> Tensor:
    """Mix the values that each packed position may see.

        o_i = Σ_j softmax_j(scale · q_i · k_j + bias_ij) v_j      (j: the context of i's row, and its tokens up to i)

    Args:
        qk_SGD: queries, then keys, float32 or wider.
        v_SJD: values, in the type that products are computed in.
        scene: what attends to what.

    Returns:
        (S, heads, D), in the type of the values.
    """
    wanted = any(x.requires_grad for x in (qk_SGD, v_SJD, *scene.biases))
    return _PackedAttention.apply(qk_SGD, v_SJD, scene, wanted and torch.is_grad_enabled(), *scene.biases)


def cross_attention(query_SHD: Tensor, key_EHD: Tensor, v_EHD: Tensor, scene: Scene) -> Tensor:
    """The same of queries to keys and values of contexts at other positions.

    Args:
        query_SHD: queries, float32 or wider.
        key_EHD: keys of contexts, in the type of the queries.
        v_EHD: values of contexts, in the type that products are computed in.
        scene: which context each query sees.
    """
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in (query_SHD, key_EHD, v_EHD))
    return _CrossAttention.apply(query_SHD, key_EHD, v_EHD, scene, keep)
