"""The tactics that a policy proposes in a state of a proof, with their probabilities."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.keyed_random import keyed_uniforms


@dataclass(frozen=True)
class Proposal:
    """One tactic that a policy proposes.

    Args:
        tactic: without white space around it, never empty.
        log_prob: log q(tactic, stop | prompt) at temperature 1, nats; of a tactic that was found in several spellings
            (white space around it, other tokens) the log of their summed probability.
    """

    tactic: str
    log_prob: float


@dataclass(frozen=True)
class Proposed:
    """The tactics that a policy proposes in one state.

    Args:
        tactics: different ones, most probable first.
        generated_tokens: that the policy wrote for them.
        too_long: the prompt is longer than the policy takes, so that there are no tactics.
    """

    tactics: tuple[Proposal, ...]
    generated_tokens: int = 0
    too_long: bool = False


@dataclass(frozen=True)
class ProposalRequest:
    """A state that wants tactics.

    Args:
        prompt: what the policy reads.
        key: names the state among all states of all theorems; random numbers depend on it and on nothing else.
    """

    prompt: str
    key: str


class TacticProposals(ABC):
    """Says which tactics are tried in a state."""

    @abstractmethod
    def propose(
        self,
        policy: Policy,
        requests: Sequence[ProposalRequest],
        branching: int,
        *,
        seed: int = 0,
        rollout_step: int = 0,
    ) -> list[Proposed]:
        """At most ``branching`` different tactics for each request, most probable first.

        Args:
            policy: proposes and scores.
            requests: states, proposed for in one batch.
            branching: most tactics of each.
            seed: of the random numbers, if any are needed.
            rollout_step: further part of their key.
        """


def context_of(policy: Policy, prompt: str) -> list[int] | None:
    """Tokens of a prompt; None if it is longer than the policy takes, although ``ProofPrompt`` cut it."""
    try:
        return policy.encode_prompt(prompt)
    except ValueError:
        return None


def merged(found: Iterable[tuple[str, float]], branching: int) -> tuple[Proposal, ...]:
    """Different tactics, most probable first; equal ones are joined, empty ones left out.

    Args:
        found: text and log-probability of different token sequences.
        branching: how many are kept.
    """
    log_probs: dict[str, list[float]] = {}
    for text, log_prob in found:
        if tactic := text.strip():
            log_probs.setdefault(tactic, []).append(log_prob)
    joined = [Proposal(tactic, log_sum_exp(values)) for tactic, values in log_probs.items()]
    return tuple(sorted(joined, key=lambda proposal: (-proposal.log_prob, proposal.tactic))[:branching])


def log_sum_exp(values: Sequence[float]) -> float:
    """log Σ exp of finite values, at most 0."""
    top = max(values)
    return min(0.0, top + math.log(math.fsum(math.exp(value - top) for value in values)))


@dataclass(frozen=True)
class SampledTactics(TacticProposals):
    """Samples tactics and keeps the different ones.

    ``branching · oversampling`` tactics are sampled, equal ones are merged, the most probable ``branching`` are kept.
    Random numbers are keyed by (seed, rollout step, state's key, sample), so that the proposals of a state depend
    neither on the other states nor on when it is reached.

    Args:
        oversampling: samples for each tactic that is wanted; more of them find more different tactics.
        temperature: of sampling; reported log-probabilities are at temperature 1 always.
        top_k: keep the k most likely tokens; None keeps all.
        top_p: keep the smallest set of tokens with this probability; None keeps all.
        max_rows: tactics sampled at once (bounds memory).

    Raises:
        ValueError: if a number is out of range.
    """

    oversampling: int = 1
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    max_rows: int = 512

    def __post_init__(self) -> None:
        for name in ("oversampling", "temperature", "max_rows"):
            if getattr(self, name) <= 0:
                raise ValueError(f"proposals.{name}={getattr(self, name)} must be above 0")

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
        """Sample, merge and sort."""
        contexts = [context_of(policy, request.prompt) for request in requests]
        possible = [r for r, context in enumerate(contexts) if context is not None]
        rows = [(r, sample) for r in possible for sample in range(branching * self.oversampling)]
        found: list[dict[tuple[int, ...], float]] = [{} for _ in requests]
        tokens = [0] * len(requests)
        for start in range(0, len(rows), self.max_rows):
            chunk = rows[start : start + self.max_rows]
            uniforms = keyed_uniforms(
                "search",
                seed=seed,
                rollout_step=rollout_step,
                problem_ids=[requests[r].key for r, _ in chunk],
                samples=[sample for _, sample in chunk],
                length=policy.max_new_tokens + 1,
            )
            for (r, _), (action, log_prob) in zip(chunk, self._sample(policy, contexts, chunk, uniforms), strict=True):
                found[r].setdefault(action, log_prob)
                tokens[r] += len(action)
        decoded = [[(policy.decode(action), log_prob) for action, log_prob in row.items()] for row in found]
        return [
            Proposed(merged(row, branching), count, context is None)
            for row, count, context in zip(decoded, tokens, contexts, strict=True)
        ]

    def _sample(
        self,
        policy: Policy,
        contexts: Sequence[Sequence[int] | None],
        chunk: Sequence[tuple[int, int]],
        uniforms: object,
    ) -> list[tuple[tuple[int, ...], float]]:
        """Action tokens and log q(action, stop) of each row."""
        tempered = torch.full((len(chunk),), self.temperature) if self.temperature != 1.0 else None
        sampled = policy.sample(
            [context for r, _ in chunk if (context := contexts[r]) is not None],
            torch.as_tensor(uniforms),
            temperature_N=tempered,
            top_k=self.top_k,
            top_p=self.top_p,
        )
        lengths = sampled.action_mask_NT.sum(1).tolist()
        log_probs = sampled.scores.log_prob_N(sampled.action_mask_NT).tolist()
        columns = zip(sampled.action_ids_NT.tolist(), lengths, log_probs, strict=True)
        return [(tuple(ids[:length]), log_prob) for ids, length, log_prob in columns]
