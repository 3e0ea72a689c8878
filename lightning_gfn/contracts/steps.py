"""Padded steps of N model calls, what a policy says of them, and what it sampled.

Shape suffixes are those of ``types``, where these classes are imported from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class StepBatch:
    """N padded steps: what the policy sees, and what it did.

    The stop action is not among the action tokens: a step with n tokens has n + 1 prefixes.

    Args:
        context_ids_NC: int64, padded on the left.
        context_mask_NC: bool, True on context tokens.
        action_ids_NT: int64, padded on the right, no end token.
        action_mask_NT: bool, True on action tokens.
        inserted_NT: bool, True on those of them that a tool wrote: text that follows from the state, with probability 1
            under every policy. None where no policy has tools.
    """

    context_ids_NC: Tensor
    context_mask_NC: Tensor
    action_ids_NT: Tensor
    action_mask_NT: Tensor
    inserted_NT: Tensor | None = None

    @property
    def num_steps(self) -> int:
        """N."""
        return self.action_ids_NT.shape[0]

    @property
    def lengths_N(self) -> Tensor:
        """Tokens of each action, int64, those that a tool wrote among them."""
        return self.action_mask_NT.sum(1)

    @property
    def chosen_NT(self) -> Tensor:
        """bool, True on the tokens that the policy itself chose."""
        return self.action_mask_NT if self.inserted_NT is None else self.action_mask_NT & ~self.inserted_NT

    def select(self, index_M: Tensor) -> StepBatch:
        """The steps at these indices, in this order, padded as before."""
        return self.mapped(lambda values: values[index_M])

    def to(self, device: torch.device | str) -> StepBatch:
        """The same steps on a device."""
        return self.mapped(lambda values: values.to(device))

    def trimmed(self) -> StepBatch:
        """The same steps without columns in which nothing but padding stands."""
        start = self.context_ids_NC.shape[1] - int(self.context_mask_NC.sum(1).max())
        end = int(self.lengths_N.max())
        return StepBatch(
            self.context_ids_NC[:, start:],
            self.context_mask_NC[:, start:],
            self.action_ids_NT[:, :end],
            self.action_mask_NT[:, :end],
            None if self.inserted_NT is None else self.inserted_NT[:, :end],
        )

    def mapped(self, function: Callable[[Tensor], Tensor]) -> StepBatch:
        """The steps with every tensor taken through a function."""
        values = {name: function(value) for name, value in vars(self).items() if value is not None}
        return StepBatch(**values)


@dataclass(frozen=True)
class Scores:
    """What a policy says of given actions; gradient flows unless the pass was made without it.

    Args:
        log_pf_NT: log q(token | prefix) at temperature 1; 0 where the action mask is False, or a tool wrote the token.
        log_pstop_NT1: log q(stop | prefix) for each of the T + 1 prefixes; 0 where stop is forced (maximum length)
            and beyond the last prefix; prefixes that may not stop hold 0 as well and are False in
            ``stop_mask_NT1``. None if it was not asked for.
        stop_mask_NT1: bool, True on prefixes of the action that the policy may stop at.
        entropy_NT1: entropy of the next action (token or stop) at each prefix, nats; None if not asked for.
        hidden_NT1H: last hidden state at each prefix, for heads; None if not asked for.
        pooled_NH: mean of the last hidden states over each step's context (the encoder's, where there is one), float32;
            given together with ``hidden_NT1H``.
    """

    log_pf_NT: Tensor
    log_pstop_NT1: Tensor | None
    stop_mask_NT1: Tensor
    entropy_NT1: Tensor | None = None
    hidden_NT1H: Tensor | None = None
    pooled_NH: Tensor | None = None

    def log_prob_N(self, action_mask_NT: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """log q(action, stop) of each step, (N,), nats.

            log q(action, stop) = Σ_t log q(a_t | a_<t) + log q(stop | a)

        Args:
            action_mask_NT: bool, True on the tokens of the scored actions.
            dtype: in which the tokens are summed; None for that of the scores.

        Raises:
            ValueError: the scores have no stops.
        """
        if self.log_pstop_NT1 is None:
            raise ValueError("these scores have no log q(stop): score with stop=True")
        log_pf_N = self.log_pf_NT.masked_fill(~action_mask_NT, 0.0).sum(1, dtype=dtype)
        return log_pf_N + self.log_pstop_NT1.gather(1, action_mask_NT.sum(1, keepdim=True)).squeeze(1)

    def log_prob_NT1(self) -> Tensor:
        """log q(prefix, stop) of each of the T + 1 prefixes, nats; one that may not stop has its tokens alone.

        Raises:
            ValueError: the scores have no stops.
        """
        from torch.nn.functional import pad

        if self.log_pstop_NT1 is None:
            raise ValueError("these scores have no log q(stop): score with stop=True")
        return pad(self.log_pf_NT.cumsum(1), (1, 0)) + self.log_pstop_NT1


@dataclass(frozen=True)
class CandidateScores:
    """What a policy says of K candidate actions at each prefix of given actions.

    Args:
        candidates_NT1K: int64, the candidates as action ids; arbitrary where ``log_p_NT1K`` is -inf.
        log_p_NT1K: log-probability of each, temperature 1, nats; -inf where a prefix has fewer actions.
        log_rest_NT1: log-probability of all other actions together; -inf where there are none.
        mask_NT1: bool, True on the prefixes where an action is chosen: before each token, and at the end unless the
            maximum length forces the stop there. Values elsewhere are 0.
    """

    candidates_NT1K: Tensor
    log_p_NT1K: Tensor
    log_rest_NT1: Tensor
    mask_NT1: Tensor


@dataclass(frozen=True)
class SampledActions:
    """What a policy sampled, N rows of at most T tokens; everything detached.

    Args:
        action_ids_NT: int64, padded on the right with the policy's pad id; the end token is left out.
        action_mask_NT: bool, True on action tokens.
        scores: log-probabilities at temperature 1, as ``Policy.score`` would give them.
        behaviour_log_pf_NT: log-probability of the token under the behaviour distribution (temperature, top-k, top-p).
        behaviour_log_pstop_N: the same for the final stop; 0 where it was forced.
        inserted_NT: bool, True on tokens that a tool wrote; None if the policy has no tools.
    """

    action_ids_NT: Tensor
    action_mask_NT: Tensor
    scores: Scores
    behaviour_log_pf_NT: Tensor
    behaviour_log_pstop_N: Tensor
    inserted_NT: Tensor | None = None
