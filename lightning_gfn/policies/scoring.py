"""Scoring given actions by one teacher-forced forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.decoding import ActionSpace
from lightning_gfn.policies.log_probs import OutputLayer, action_log_probs
from lightning_gfn.types import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def join_rows(
    context_ids_NC: Tensor, context_mask_NC: Tensor, action_ids_NT: Tensor, action_mask_NT: Tensor, pad_id: int
) -> tuple[Tensor, Tensor]:
    """Context and action of each row without a gap, padding at the end.

    So positions count from 0, and causal attention alone keeps padding unseen: no mask is needed.

    Args:
        context_ids_NC: padded on the left.
        context_mask_NC: bool.
        action_ids_NT: padded on the right.
        action_mask_NT: bool.
        pad_id: filler.

    Returns:
        ids (N, L), L the longest row, and the lengths of the contexts (N,).
    """
    ids_NS = torch.cat([context_ids_NC, action_ids_NT], dim=1)
    mask_NS = torch.cat([context_mask_NC, action_mask_NT], dim=1)
    order_NS = torch.argsort((~mask_NS).to(torch.uint8), dim=1, stable=True)
    ids_NS = ids_NS.masked_fill(~mask_NS, pad_id).gather(1, order_NS)
    longest = int(mask_NS.sum(1).max())
    return ids_NS[:, :longest], context_mask_NC.sum(1)


def check_actions(
    space: ActionSpace, action_ids_NT: Tensor, action_mask_NT: Tensor, context_N: Tensor, describe: Callable[[int], str]
) -> None:
    """Refuse actions that q gives probability zero, since their log-probability has no gradient.

    Args:
        space: the actions of q.
        action_ids_NT: padded on the right.
        action_mask_NT: bool.
        context_N: lengths of the contexts.
        describe: names a token in an error.

    Raises:
        ValueError: naming the row and the token.
    """
    lengths_N = action_mask_NT.sum(1)
    impossible_NT = ~space.allowed_V[action_ids_NT.masked_fill(~action_mask_NT, 0)] & action_mask_NT
    problems = torch.stack(
        [impossible_NT.any(), (lengths_N > space.max_new_tokens).any(), (context_N == 0).any()]
    ).tolist()
    if problems[0]:
        row, column = impossible_NT.nonzero()[0].tolist()
        token = int(action_ids_NT[row, column])
        raise ValueError(
            f"action row {row} holds token {token} ({describe(token)}), which the policy cannot produce: "
            "it is an end token, a special token or missing from allowed_tokens"
        )
    if problems[1]:
        row = int((lengths_N > space.max_new_tokens).nonzero()[0])
        raise ValueError(
            f"action row {row} has {int(lengths_N[row])} tokens, max_new_tokens is {space.max_new_tokens}: "
            "raise it or cut the action"
        )
    if problems[2]:
        raise ValueError("a context is empty: begin it with the tokenizer's begin or end token")


@dataclass(frozen=True)
class PrefixStates:
    """Hidden states of a teacher-forced pass, and where the prefixes of N actions stand among them.

    Args:
        hidden_SH: hidden states of all positions.
        flat_NT1: row of ``hidden_SH`` at which each of the T + 1 prefixes is read.
        stop_mask_NT1: bool, True on prefixes that may stop.
        index_M: the M prefixes, in a flattened (N, T + 1), at which an action is decided.
    """

    hidden_SH: Tensor
    flat_NT1: Tensor
    stop_mask_NT1: Tensor
    index_M: Tensor

    def decided_MH(self) -> Tensor:
        """Hidden states of the M prefixes."""
        return self.hidden_SH.index_select(0, self.flat_NT1.reshape(-1)[self.index_M])

    def may_stop_M(self) -> Tensor:
        """Whether stop is an action at each of the M prefixes."""
        return self.stop_mask_NT1.reshape(-1)[self.index_M]

    def spread(self, values_M: Tensor) -> Tensor:
        """(M, …) values as (N, T + 1, …), 0 elsewhere."""
        empty = values_M.new_zeros(self.flat_NT1.numel(), *values_M.shape[1:])
        return empty.index_copy(0, self.index_M, values_M).view(*self.flat_NT1.shape, *values_M.shape[1:])


def prefix_rows(context_N: Tensor, num_prefixes: int, num_positions: int) -> Tensor:
    """Where the prefixes of joined rows are read in hidden states flattened to (N · L, H).

    Prefix t of row n is read at the last token before it; beyond the last prefix any position will do.

    Args:
        context_N: lengths of the contexts.
        num_prefixes: T + 1.
        num_positions: L, positions of each joined row.

    Returns:
        int64 (N, T + 1).
    """
    prefix_T1 = torch.arange(num_prefixes, device=context_N.device)
    position_NT1 = (context_N[:, None] - 1 + prefix_T1).clamp_max(num_positions - 1)
    return torch.arange(len(context_N), device=context_N.device)[:, None] * num_positions + position_NT1


def prefix_states(
    backbone: PreTrainedModel,
    space: ActionSpace,
    context_ids_NC: Tensor,
    context_mask_NC: Tensor,
    action_ids_NT: Tensor,
    action_mask_NT: Tensor,
    *,
    pad_id: int,
    max_positions: int | None,
    with_last: bool,
    describe: Callable[[int], str],
) -> PrefixStates:
    """One pass over contexts and actions.

    Args:
        backbone: the model without its output layer.
        space: the actions of q.
        context_ids_NC: padded on the left.
        context_mask_NC: bool.
        action_ids_NT: padded on the right.
        action_mask_NT: bool.
        pad_id: filler.
        max_positions: positions of the model.
        with_last: an action is decided at the last prefix too, unless its stop is forced.
        describe: names a token in an error.

    Returns:
        hidden states, and the prefixes at which an action is decided.

    Raises:
        ValueError: if an action is impossible, or a row too long for the model.
    """
    ids_NL, context_N = join_rows(context_ids_NC, context_mask_NC, action_ids_NT, action_mask_NT, pad_id)
    check_actions(space, action_ids_NT, action_mask_NT, context_N, describe)
    if max_positions is not None and ids_NL.shape[1] > max_positions:
        raise ValueError(f"context and action have {ids_NL.shape[1]} tokens, the model has {max_positions} positions")
    hidden_NLH = backbone(input_ids=ids_NL, use_cache=False).last_hidden_state
    lengths_N = action_mask_NT.sum(1)
    num_prefixes = action_ids_NT.shape[1] + 1
    prefix_T1 = torch.arange(num_prefixes, device=ids_NL.device)
    last_N1 = lengths_N[:, None] if with_last else lengths_N[:, None] - 1
    decided_NT1 = (prefix_T1 <= last_N1) & (prefix_T1 < space.max_new_tokens)
    return PrefixStates(
        hidden_SH=hidden_NLH.reshape(-1, hidden_NLH.shape[-1]),
        flat_NT1=prefix_rows(context_N, num_prefixes, ids_NL.shape[1]),
        stop_mask_NT1=space.stop_mask(lengths_N, num_prefixes),
        index_M=decided_NT1.reshape(-1).nonzero().squeeze(1),
    )


def score_actions(
    states: PrefixStates,
    output_layer: OutputLayer,
    space: ActionSpace,
    action_ids_NT: Tensor,
    action_mask_NT: Tensor,
    *,
    vocab_size: int,
    max_logits: int,
    stop: bool,
    entropy: bool,
    hidden: bool,
) -> Scores:
    """Scores of N actions; see ``CausalLM.score``.

    Args:
        states: hidden states and prefixes, the last ones among them if ``stop`` or ``entropy`` is asked for.
        output_layer: hidden states to logits.
        space: the actions of q.
        action_ids_NT: padded on the right.
        action_mask_NT: bool.
        vocab_size: V.
        max_logits: the most logits to hold at a time.
        stop: return log q(stop).
        entropy: return entropies.
        hidden: return hidden states.

    Returns:
        scores, float32.
    """
    token_NT1 = functional.pad(action_ids_NT.masked_fill(~action_mask_NT, 0), (0, 1))
    log_token_M, log_stop_M, entropy_M = action_log_probs(
        states.decided_MH(),
        output_layer,
        token_NT1.reshape(-1)[states.index_M],
        states.may_stop_M(),
        space,
        vocab_size=vocab_size,
        with_entropy=entropy,
        max_logits=max_logits,
    )
    return Scores(
        log_pf_NT=torch.where(action_mask_NT, states.spread(log_token_M)[:, : action_ids_NT.shape[1]], 0.0),
        log_pstop_NT1=states.spread(log_stop_M) if stop else None,
        stop_mask_NT1=states.stop_mask_NT1,
        entropy_NT1=states.spread(entropy_M) if entropy_M is not None else None,
        hidden_NT1H=states.hidden_SH[states.flat_NT1] if hidden else None,
    )
