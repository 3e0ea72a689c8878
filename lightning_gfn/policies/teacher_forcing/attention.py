"""Causal attention of packed rows to their contexts and to themselves, by batched products, with its gradient."""

from __future__ import annotations

from collections.abc import Iterator
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
    """

    def __init__(self, block: Block, num_heads: int, num_kv_heads: int, form: AttentionForm) -> None:
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
        """(S, J, D) → (B · J, L, D), contexts first."""
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
        self.scatter(out_SJD, x[:, :, self.context :].flatten(0, 1))
        if self.block.context_BC is not None:
            before = x[:, :, : self.context].transpose(1, 2).flatten(0, 1).to(out_SJD.dtype)
            out_SJD.index_add_(0, self.block.context_BC.reshape(-1), before)

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """Some of the B contexts at a time, and their B · J heads, so that their scores stay in the cache."""
        group_bytes = 8 * self.num_kv_heads * self.num_queries * (self.context + self.queries)
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
    ) -> None:
        """Write the gradients of the block's own positions, and add those of its contexts.

        Args:
            p: the softmax.
            inputs: queries, keys and values, in the type of the values.
            grad_SHD: gradient of the output.
            outputs: gradients of queries, keys and values.
        """
        (query_SHD, key_SJD, v_SJD), (grad_query, grad_key, grad_v) = inputs, outputs
        grad, query = self.gather(grad_SHD), self.gather(query_SHD)
        key, value = self.gather_keys(key_SJD), self.gather_keys(v_SJD)
        of_query, of_key, of_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for _, heads in self.parts():
            torch.bmm(p[heads].transpose(1, 2), grad[heads], out=of_value[heads])
            grad_p = torch.bmm(grad[heads], value[heads].transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(grad_p, p[heads], -1, p.dtype)
            if self.cap is not None:
                bounded = self.product(query[heads], key[heads].transpose(1, 2)).tanh_()
                grad_scores = torch.ops.aten.tanh_backward(grad_scores, bounded).mul_(self.cap)
            self.product(grad_scores.transpose(1, 2), query[heads], out=of_key[heads])
            self.product(grad_scores, key[heads], out=of_query[heads])
        self.scatter_keys(grad_v, of_value)
        self.scatter_keys(grad_key, of_key)
        self.scatter(grad_query, of_query)


class _PackedAttention(torch.autograd.Function):
    """softmax(Q Kᵀ) V of every block; the softmax is kept in the type of the values."""

    @staticmethod
    def forward(
        ctx: Any, qk_SGD: Tensor, v_SJD: Tensor, blocks: list[Block], form: AttentionForm, keep: bool
    ) -> Tensor:
        num_heads = qk_SGD.shape[1] - v_SJD.shape[1]
        query_SHD, key_SJD = qk_SGD.split((num_heads, v_SJD.shape[1]), dim=1)
        out_SHD = v_SJD.new_empty(v_SJD.shape[0], num_heads, v_SJD.shape[2])
        kept = []
        for block in blocks:
            p = _BlockHeads(block, num_heads, v_SJD.shape[1], form).forward(query_SHD, key_SJD, v_SJD, out_SHD)
            if keep:
                kept.append(p)
        ctx.blocks, ctx.num_heads, ctx.form = blocks, num_heads, form
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
        for block, p in zip(ctx.blocks, kept, strict=True):  # contexts come first: what follows adds to theirs
            _BlockHeads(block, ctx.num_heads, v_SJD.shape[1], ctx.form).backward(p, inputs, grad_SHD, outputs)
        return grad_qk, grad_v, None, None, None


def packed_attention(qk_SGD: Tensor, v_SJD: Tensor, blocks: list[Block], form: AttentionForm) -> Tensor:
    """Mix the values that each packed position may see.

        o_i = Σ_j softmax_j(scale · q_i · k_j) v_j        (j: the context of i's row, and its tokens up to i)

    Args:
        qk_SGD: queries, then keys, float32 or wider.
        v_SJD: values, in the type that products are computed in.
        blocks: what attends to what; contexts first.
        form: how the layer attends.

    Returns:
        (S, heads, D), in the type of the values.
    """
    keep = torch.is_grad_enabled() and (qk_SGD.requires_grad or v_SJD.requires_grad)
    return _PackedAttention.apply(qk_SGD, v_SJD, blocks, form, keep)
