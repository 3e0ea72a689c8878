"""Log-probabilities of several candidate actions at each prefix: a teacher's most probable ones, or given ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.scoring.score_actions import PrefixStates
from lightning_gfn.types import CandidateScores


def log_remainder(logits_MV: Tensor, candidates_MK: Tensor) -> Tensor:
    """log Σ exp of the logits that are no candidates, (M,); -inf, without gradient, where there are none."""
    others_MV = logits_MV.scatter(1, candidates_MK, -torch.inf)
    has_others_M1 = (others_MV > -torch.inf).any(1, keepdim=True)
    total_M = torch.where(has_others_M1, others_MV, 0.0).logsumexp(1)
    return torch.where(has_others_M1.squeeze(1), total_M, -torch.inf)


def candidate_log_probs(
    hidden_MH: Tensor,
    output_layer: OutputLayer,
    may_stop_M: Tensor,
    candidates_MK: Tensor | None,
    space: ActionSpace,
    *,
    top_k: int,
    vocab_size: int,
    max_logits: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of K actions at each of M prefixes, and of all others together.

        log q(a) = l_a - log Σ_b exp(l_b),    log q(rest) = log Σ_{b∉K} exp(l_b) - log Σ_b exp(l_b)

    over the actions of ``space``, stop included where the prefix may stop. The prefixes are worked off in chunks, and
    the backward pass computes the logits of a chunk again, so that at most ``max_logits`` of them exist at a time.

    Args:
        hidden_MH: hidden states after the final norm.
        output_layer: hidden states to logits.
        may_stop_M: bool, whether stop is an action at the prefix.
        candidates_MK: int64, the K different actions at each prefix; None takes the ``top_k`` most probable ones.
        space: which actions exist.
        top_k: K, if no candidates are given; at most V.
        vocab_size: V.
        max_logits: the most logits to hold at a time.

    Returns:
        candidates (M, K), most probable first if they were not given; log q of each (M, K), -inf where there is no
        such action; log q of the rest (M,), -inf where there is none. Nats, float32.
    """

    def chunk(hidden: Tensor, may_stop: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        logits = output_layer(hidden).float()
        logits = space.restrict_(logits.clone() if torch.is_grad_enabled() else logits, may_stop)
        chosen = given if given is not None else logits.topk(min(top_k, vocab_size), dim=1).indices
        log_z_M1 = logits.logsumexp(1, keepdim=True)
        log_rest_M = log_remainder(logits, chosen) - log_z_M1.squeeze(1)
        return chosen, logits.gather(1, chosen) - log_z_M1, log_rest_M

    rows = max(1, max_logits // vocab_size)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, max(1, hidden_MH.shape[0]), rows):
        piece = slice(start, start + rows)
        given = candidates_MK[piece] if candidates_MK is not None else None
        if torch.is_grad_enabled():
            inputs = (hidden_MH[piece], may_stop_M[piece], given)
            parts.append(checkpoint(chunk, *inputs, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(chunk(hidden_MH[piece], may_stop_M[piece], given))
    candidates, log_p, log_rest = zip(*parts, strict=True)
    return torch.cat(candidates), torch.cat(log_p), torch.cat(log_rest)


def candidate_scores(
    states: PrefixStates,
    output_layer: OutputLayer,
    space: ActionSpace,
    candidates_NT1K: Tensor | None,
    *,
    top_k: int,
    vocab_size: int,
    max_logits: int,
) -> CandidateScores:
    """``candidate_log_probs`` at the decided prefixes of N actions.

    Args:
        states: hidden states and prefixes.
        output_layer: hidden states to logits.
        space: the actions of q.
        candidates_NT1K: int64, the actions asked for; None takes the most probable ones.
        top_k: how many, if none are given.
        vocab_size: V.
        max_logits: the most logits to hold at a time.

    Returns:
        scores, (N, T + 1, K).
    """
    given_MK = candidates_NT1K.flatten(0, 1)[states.index_M] if candidates_NT1K is not None else None
    candidates_MK, log_p_MK, log_rest_M = candidate_log_probs(
        states.decided_MH(),
        output_layer,
        states.may_stop_M(),
        given_MK,
        space,
        top_k=top_k,
        vocab_size=vocab_size,
        max_logits=max_logits,
    )
    decided_M = torch.ones_like(states.index_M, dtype=torch.bool)
    return CandidateScores(
        candidates_NT1K=states.spread(candidates_MK),
        log_p_NT1K=states.spread(log_p_MK),
        log_rest_NT1=states.spread(log_rest_M),
        mask_NT1=states.spread(decided_M),
    )
