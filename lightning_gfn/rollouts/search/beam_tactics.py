"""The most probable tactics of a state, by beam search over tokens."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy
from lightning_gfn.padding import pad_steps
from lightning_gfn.rollouts.search.tactic_generator import (
    ProposalRequest,
    Proposed,
    TacticProposals,
    context_of,
    merged,
)


@dataclass
class _Beam:
    """The hypotheses of one state."""

    context: list[int]
    open: list[tuple[float, tuple[int, ...]]] = field(default_factory=lambda: [(0.0, ())])
    done: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    tokens: int = 0

    def is_finished(self, width: int) -> bool:
        """No open hypothesis can get among the ``width`` best finished ones: longer ones are never more probable."""
        if not self.open:
            return True
        best = heapq.nlargest(width, (log_prob for log_prob, _ in self.done))
        return len(best) == width and best[-1] >= max(log_prob for log_prob, _ in self.open)


@dataclass(frozen=True)
class BeamTactics(TacticProposals):
    """Beam search of a fixed width, exact log q, stop included; all states of a request advance together.

    Deterministic. At every position the whole vocabulary is scored at every prefix of every open hypothesis (there is
    no cache of earlier positions), which suits byte tokenizers and short tactics; sampling is the cheaper choice.

    Args:
        width: hypotheses kept at each position; None for the branching that is asked for.
        max_rows: hypotheses scored at once (bounds memory: rows x prefixes x vocabulary).

    Raises:
        ValueError: if a number is out of range.
    """

    width: int | None = None
    max_rows: int = 64

    def __post_init__(self) -> None:
        if self.max_rows < 1 or (self.width is not None and self.width < 1):
            raise ValueError(f"proposals.width={self.width} and max_rows={self.max_rows} must be at least 1")

    @torch.no_grad()
    def propose(
        self,
        policy: Policy,
        requests: Sequence[ProposalRequest],
        branching: int,
        *,
        seed: int = 0,
        rollout_step: int = 0,
    ) -> list[Proposed]:
        """Search and merge; seed and rollout_step are not used."""
        width = self.width if self.width is not None else branching
        contexts = [context_of(policy, request.prompt) for request in requests]
        beams = [_Beam(context) if context is not None else _Beam([], open=[]) for context in contexts]
        for length in range(policy.max_new_tokens + 1):
            active = [beam for beam in beams if not beam.is_finished(width)]
            if not active:
                break
            if length == policy.max_new_tokens:  # the stop is forced
                for beam in active:
                    beam.done += beam.open
                    beam.open = []
                break
            self._advance(policy, active, width)
        best = [[(policy.decode(ids), log_prob) for log_prob, ids in heapq.nlargest(width, b.done)] for b in beams]
        return [
            Proposed(merged(row, branching), beam.tokens, context is None)
            for row, beam, context in zip(best, beams, contexts, strict=True)
        ]

    def _advance(self, policy: Policy, beams: Sequence[_Beam], width: int) -> None:
        """One more token for every open hypothesis."""
        rows = [(beam, log_prob, ids) for beam in beams for log_prob, ids in beam.open]
        grown: dict[int, list[tuple[float, tuple[int, ...]]]] = {id(beam): [] for beam in beams}
        for start in range(0, len(rows), self.max_rows):
            chunk = rows[start : start + self.max_rows]
            log_p_NV = _next_log_probs(policy, [(beam.context, ids) for beam, _, ids in chunk])
            stop_N = log_p_NV[:, policy.stop_id].tolist()
            log_p_NV[:, policy.stop_id] = -torch.inf
            top = log_p_NV.topk(min(width, log_p_NV.shape[1]), dim=1)
            columns = zip(chunk, stop_N, top.values.tolist(), top.indices.tolist(), strict=True)
            for (beam, log_prob, ids), stop, values, tokens in columns:
                if stop > -torch.inf:
                    beam.done.append((log_prob + stop, ids))
                grown[id(beam)] += [
                    (log_prob + value, (*ids, token))
                    for value, token in zip(values, tokens, strict=True)
                    if value > -torch.inf
                ]
        for beam in beams:
            beam.open = heapq.nlargest(width, grown[id(beam)])
            beam.tokens += len(beam.open)


def _next_log_probs(policy: Policy, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tensor:
    """Log q of every action after each (context, action so far), (N, V); the actions are of one length."""
    steps = pad_steps([context for context, _ in rows], [ids for _, ids in rows], "cpu")
    length = len(rows[0][1])
    all_actions = torch.arange(policy.vocab_size).expand(len(rows), length + 1, -1)
    scores = policy.candidate_scores(steps, all_actions)
    return scores.log_p_NT1K[:, length].float().cpu().clone()
