"""Whole proofs for validation, test and prediction, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.keyed_sampling import KeyedDraw
from lightning_gfn.rollouts.proofs.attempt import ProofAttempt, TacticStep, theorem_of
from lightning_gfn.rollouts.proofs.episode_runner import EpisodeRunner
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.types import EvalRecord, Problem


@torch.no_grad()
def sample_proofs(
    policy: Policy,
    problems: Sequence[Problem],
    proving: Proving,
    *,
    num_samples: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    max_rows: int = 512,
    entropy: bool = True,
    device: torch.device | str = "cpu",
) -> list[EvalRecord]:
    """Draw whole proofs of each theorem, tactic by tactic.

    Tactics are keyed by (seed, problem id, sample, turn, position), as those of ``sample_completions``. A theorem that
    could not be stated counts as attempted in vain.

    Args:
        policy: samples and scores.
        problems: P theorems.
        proving: environment and prompt.
        num_samples: attempts at each.
        temperature: of sampling, above 0.
        top_k: keep the k most likely actions; None keeps all.
        top_p: keep the smallest set of actions with this probability; None keeps all.
        seed: key of the uniforms.
        max_rows: tactics decoded at once.
        entropy: report entropies; without they are NaN.
        device: of the policy.

    Returns:
        One record a theorem, in order. A completion is the script of tactics, ``log_probs`` are sums over tactics at
        temperature 1, lengths count action tokens, an entropy is the mean over all actions, and an attempt is truncated
        if the maximum length ended a tactic or it ran out of tactics.

    Raises:
        ValueError: if a number is out of range, or a problem is no theorem.
    """
    for name, value in (("num_samples", num_samples), ("temperature", temperature), ("max_rows", max_rows)):
        if value <= 0:
            raise ValueError(f"sample_proofs: {name}={value} must be above 0")
    attempts = [
        ProofAttempt(p, problem.id, theorem_of(problem), sample, temperature=temperature, truncated=True)
        for p, problem in enumerate(problems)
        for sample in range(num_samples)
    ]
    draw = KeyedDraw("evaluation", seed, 0, top_k, top_p, entropy)
    limits = {"max_steps": proving.steps_in_evaluation, "max_rows": max_rows}
    EpisodeRunner(policy, proving, draw, device, **limits, entropy=entropy).run(attempts)
    groups = [attempts[p * num_samples : (p + 1) * num_samples] for p in range(len(problems))]
    return [_record(problem, temperature, group) for problem, group in zip(problems, groups, strict=True)]


def mean_entropy(moves: Sequence[TacticStep]) -> float:
    """Mean over all actions of an attempt, the stops included that were not forced, nats; 0 without actions."""
    counts = [len(move.action) + (not move.forced) for move in moves]
    total = sum(move.entropy * count for move, count in zip(moves, counts, strict=True) if count)
    return total / max(1, sum(counts))


def _record(problem: Problem, temperature: float, attempts: Sequence[ProofAttempt]) -> EvalRecord:
    episodes = [attempt.episode for attempt in attempts if attempt.episode is not None]
    return EvalRecord(
        problem=problem,
        temperature=temperature,
        completions=tuple(episode.script for episode in episodes),
        correct=tuple(episode.outcome == "proved" for episode in episodes),
        log_probs=tuple(sum(move.log_prob for move in attempt.moves) for attempt in attempts),
        lengths=tuple(sum(len(move.action) for move in attempt.moves) for attempt in attempts),
        entropies=tuple(mean_entropy(attempt.moves) for attempt in attempts),
        truncated=tuple(
            episode.outcome == "unfinished" or any(move.forced for move in attempt.moves)
            for episode, attempt in zip(episodes, attempts, strict=True)
        ),
        episodes=tuple(episodes),
    )
