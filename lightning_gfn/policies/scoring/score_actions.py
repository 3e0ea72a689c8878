"""Scoring given actions by one teacher-forced forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.models.forward_pass import ForwardPass
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.scoring.log_probs import action_log_probs
from lightning_gfn.types import Scores, StepBatch


def check_actions(space: ActionSpace, steps: StepBatch, describe: Callable[[int], str]) -> None:
    """Refuse actions that q gives probability zero, since their log-probability has no gradient.

    Args:
        space: the actions of q.
        steps: contexts and actions.
        describe: names a token in an error.

    Raises:
        ValueError: naming the row and the token.
    """
    lengths_N, mask_NT = steps.lengths_N, steps.action_mask_NT
    impossible_NT = ~space.allowed_V[steps.action_ids_NT.masked_fill(~mask_NT, 0)] & steps.chosen_NT
    no_context_N = ~steps.context_mask_NC.any(1)
    problems = torch.stack([impossible_NT.any(), (lengths_N > space.max_new_tokens).any(), no_context_N.any()]).tolist()
    if problems[0]:
        row, column = impossible_NT.nonzero()[0].tolist()
        token = int(steps.action_ids_NT[row, column])
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
    """A teacher-forced pass, and the prefixes of N actions at which an action is decided.

    Args:
        reading: hidden states and where each prefix is read.
        stop_mask_NT1: bool, True on prefixes that may stop.
        index_M: the M prefixes, in a flattened (N, T + 1), at which an action is decided.
    """

    reading: ForwardPass
    stop_mask_NT1: Tensor
    index_M: Tensor

    def position_M(self) -> Tensor:
        """Where each of the M prefixes was read."""
        return self.reading.flat_NT1.reshape(-1)[self.index_M]

    def decided_MH(self) -> Tensor:
        """Hidden states of the M prefixes."""
        return self.reading.hidden_SH.index_select(0, self.position_M())

    def may_stop_M(self) -> Tensor:
        """Whether stop is an action at each of the M prefixes."""
        return self.stop_mask_NT1.reshape(-1)[self.index_M]

    def spread(self, values_M: Tensor) -> Tensor:
        """(M, …) values as (N, T + 1, …), 0 elsewhere."""
        shape = self.stop_mask_NT1.shape
        empty = values_M.new_zeros(shape.numel(), *values_M.shape[1:])
        return empty.index_copy(0, self.index_M, values_M).view(*shape, *values_M.shape[1:])


def prefix_states(reading: ForwardPass, space: ActionSpace, steps: StepBatch, *, with_last: bool) -> PrefixStates:
    """The prefixes of a pass at which an action is decided; none before a token that a tool wrote.

    Args:
        reading: the pass.
        space: the actions of q.
        steps: contexts and actions.
        with_last: an action is decided at the last prefix too, unless its stop is forced.
    """
    lengths_N = steps.lengths_N
    num_prefixes = reading.flat_NT1.shape[1]
    prefix_T1 = torch.arange(num_prefixes, device=lengths_N.device)
    last_N1 = lengths_N[:, None] if with_last else lengths_N[:, None] - 1
    decided_NT1 = (prefix_T1 <= last_N1) & (prefix_T1 < space.max_new_tokens)
    stop_mask_NT1 = space.stop_mask(lengths_N, num_prefixes)
    if steps.inserted_NT is not None:
        open_NT1 = ~functional.pad(steps.inserted_NT, (0, 1))
        decided_NT1, stop_mask_NT1 = decided_NT1 & open_NT1, stop_mask_NT1 & open_NT1
    return PrefixStates(
        reading=reading,
        stop_mask_NT1=stop_mask_NT1,
        index_M=decided_NT1.reshape(-1).nonzero().squeeze(1),
    )


@dataclass(frozen=True)
class Decisions:
    """D different decisions among M: a hidden state, the token that follows it, and whether stop could.

    Args:
        decision_M: which of the D each one is.
        position_D: row of the hidden states.
        token_D: the token.
        may_stop_D: bool, whether stop was an action.
    """

    decision_M: Tensor
    position_D: Tensor
    token_D: Tensor
    may_stop_D: Tensor


def different_decisions(position_M: Tensor, token_M: Tensor, may_stop_M: Tensor, vocab_size: int) -> Decisions:
    """Name each decision once; many rows of a batch begin alike, and some are equal."""
    keys_D, decision_M = torch.unique((position_M * vocab_size + token_M) * 2 + may_stop_M, return_inverse=True)
    pair_D = keys_D // 2
    return Decisions(decision_M, pair_D // vocab_size, pair_D % vocab_size, keys_D % 2 == 1)


def score_actions(
    states: PrefixStates,
    output_layer: OutputLayer,
    space: ActionSpace,
    steps: StepBatch,
    *,
    vocab_size: int,
    max_logits: int,
    stop: bool,
    entropy: bool,
    hidden: bool,
) -> Scores:
    """Scores of N actions; see ``LanguagePolicy.score``.

    Args:
        states: hidden states and prefixes, the last ones among them if ``stop`` or ``entropy`` is asked for.
        output_layer: hidden states to logits.
        space: the actions of q.
        steps: contexts and actions.
        vocab_size: V.
        max_logits: the most logits to hold at a time.
        stop: return log q(stop).
        entropy: return entropies.
        hidden: return hidden states at the prefixes, and their mean over each context.

    Returns:
        scores, float32.
    """
    token_NT1 = functional.pad(steps.action_ids_NT.masked_fill(~steps.action_mask_NT, 0), (0, 1))
    token_M = token_NT1.reshape(-1)[states.index_M]
    decisions = different_decisions(states.position_M(), token_M, states.may_stop_M(), vocab_size)
    log_token_D, log_stop_D, entropy_D = action_log_probs(
        states.reading.hidden_SH.index_select(0, decisions.position_D),
        output_layer,
        decisions.token_D,
        decisions.may_stop_D,
        space,
        vocab_size=vocab_size,
        with_entropy=entropy,
        max_logits=max_logits,
    )

    def spread(values_D: Tensor) -> Tensor:
        return states.spread(values_D.index_select(0, decisions.decision_M))

    return Scores(
        log_pf_NT=torch.where(steps.action_mask_NT, spread(log_token_D)[:, :-1], 0.0),
        log_pstop_NT1=spread(log_stop_D) if stop else None,
        stop_mask_NT1=states.stop_mask_NT1,
        entropy_NT1=spread(entropy_D) if entropy_D is not None else None,
        hidden_NT1H=states.reading.hidden_SH[states.reading.flat_NT1] if hidden else None,
        pooled_NH=states.reading.pooled_NH() if hidden else None,
    )
