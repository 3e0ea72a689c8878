"""Log-probabilities of actions from hidden states, without ever holding all logits of a large vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.numerics.processor import cached_rows

LARGE_VOCABULARY = 2**13
"""Where the normaliser is corrected: softmax adds up one by one, and of 49,152 probabilities the sum is 2e-5 off."""


class _ActionLogProbs(torch.autograd.Function):
    """Token, stop and entropy from one softmax; the softmax takes the place of the logits and is all that is kept.

    Rows are worked off in parts that stay in the processor's cache: logits of a large vocabulary are read from memory
    once and written once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits_MV: Tensor,
        token_M: Tensor,
        may_stop_M: Tensor,
        space: ActionSpace,
        with_entropy: bool,
        overwrite: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        p_MV = logits_MV.detach().float()
        if not overwrite and p_MV.data_ptr() == logits_MV.data_ptr():
            p_MV = p_MV.clone()
        ctx.end_share_ME = p_MV.index_select(1, space.end_ids).softmax(1) if space.num_end_tokens > 1 else None
        parts = [
            softmax_in_place(p_MV[rows], token_M[rows], may_stop_M[rows], space, with_entropy)
            for rows in cached_rows(p_MV.shape[0], 2 * p_MV[:1].nbytes, p_MV.device)
        ]
        log_token_M, log_stop_M = (torch.cat([part[i] for part in parts]) for i in (0, 1))
        entropy_M = torch.cat([part[2] for part in parts]) if with_entropy else None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(p_MV, token_M, may_stop_M, entropy_M)
        ctx.space, ctx.dtype = space, logits_MV.dtype
        return log_token_M, log_stop_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        p_MV, token_M, may_stop_M, entropy_M = ctx.saved_tensors
        zero_M = torch.zeros(p_MV.shape[0], device=p_MV.device)
        grad_token_M, grad_stop_M = (zero_M if grad is None else grad for grad in grad_outputs[:2])
        grad_stop_M, grad_entropy_M = torch.where(may_stop_M, grad_stop_M, 0.0), grad_outputs[2]
        factor_M = grad_token_M + grad_stop_M
        if grad_entropy_M is not None:
            factor_M = factor_M + grad_entropy_M * entropy_M
        grad_MV = torch.empty_like(p_MV)
        for rows in cached_rows(p_MV.shape[0], 3 * p_MV[:1].nbytes, p_MV.device):
            p, grad = p_MV[rows], grad_MV[rows]
            torch.mul(p, -factor_M[rows, None], out=grad)
            if grad_entropy_M is not None:
                grad.addcmul_(torch.special.xlogy(p, p), grad_entropy_M[rows, None], value=-1)
            grad.scatter_add_(1, token_M[rows, None], grad_token_M[rows, None])
            grad[:, ctx.space.stop_id] += grad_stop_M[rows]
        if ctx.end_share_ME is not None:
            grad_MV[:, ctx.space.end_ids] = grad_MV[:, ctx.space.stop_id, None] * ctx.end_share_ME
        return grad_MV.to(ctx.dtype), None, None, None, None, None


def softmax_in_place(
    x_MV: Tensor, token_M: Tensor, may_stop_M: Tensor, space: ActionSpace, with_entropy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn logits into probabilities; returns log q(token), log q(stop), and the entropy if it is asked for."""
    space.restrict_(x_MV, may_stop_M)
    token_logit_M = x_MV.gather(1, token_M[:, None]).squeeze(1)
    stop_logit_M = x_MV[:, space.stop_id].clone()
    largest_M = x_MV.amax(1)
    torch.softmax(x_MV, 1, out=x_MV)
    log_z_M = largest_M - x_MV.amax(1).log()
    if x_MV.shape[1] >= LARGE_VOCABULARY:
        log_z_M += x_MV.sum(1).log()
    log_stop_M = torch.where(may_stop_M, stop_logit_M - log_z_M, 0.0)
    entropy_M = torch.special.entr(x_MV).sum(1) if with_entropy else log_z_M
    return token_logit_M - log_z_M, log_stop_M, entropy_M


def action_log_probs(
    hidden_MH: Tensor,
    output_layer: OutputLayer,
    token_M: Tensor,
    may_stop_M: Tensor,
    space: ActionSpace,
    *,
    vocab_size: int,
    with_entropy: bool,
    max_logits: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Log-probability of one token and of stop at each of M prefixes, and the entropy over actions.

        log q(a) = l_a - log Σ_b exp(l_b),    H = -Σ_a q(a) log q(a)        (nats, float32)

    Where few tokens are actions, only their logits are computed. When M · V exceeds ``max_logits`` the prefixes are
    worked off in chunks, and the backward pass computes the logits of a chunk again, so that at most ``max_logits`` of
    them exist at a time.

    Args:
        hidden_MH: hidden states after the final norm.
        output_layer: hidden states to logits.
        token_M: int64, the token whose probability is wanted; an allowed one.
        may_stop_M: bool, whether stop is an action at the prefix.
        space: which actions exist.
        vocab_size: V.
        with_entropy: also return H.
        max_logits: the most logits to hold at a time.

    Returns:
        log q(token) (M,), log q(stop) (M,) with 0 where the prefix may not stop, and H (M,) or None.
    """

    if space.narrow is not None and (rows_alone := output_layer.of_rows(space.action_ids_K)) is not None:
        token_M, output_layer = space.place_V[token_M], rows_alone
        space, vocab_size = space.narrow, len(space.action_ids_K)

    def chunk(hidden: Tensor, token: Tensor, may_stop: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        logits = output_layer(hidden)
        overwrite = not output_layer.keeps_logits
        return _ActionLogProbs.apply(logits, token, may_stop, space, with_entropy, overwrite)

    rows = max(1, max_logits // vocab_size)
    if hidden_MH.shape[0] <= rows:
        return chunk(hidden_MH, token_M, may_stop_M)
    parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for inputs in zip(hidden_MH.split(rows), token_M.split(rows), may_stop_M.split(rows), strict=True):
        if torch.is_grad_enabled():
            parts.append(checkpoint(chunk, *inputs, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(chunk(*inputs))
    log_token, log_stop, entropy = zip(*parts, strict=True)
    return torch.cat(log_token), torch.cat(log_stop), torch.cat(entropy) if with_entropy else None
