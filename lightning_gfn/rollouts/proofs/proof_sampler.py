"""Collects the trajectories of one rollout batch where problems are theorems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lightning_gfn.interfaces import Buffer, Policy
from lightning_gfn.lean_types import Episode, Theorem
from lightning_gfn.padding import pad_steps
from lightning_gfn.rollouts.batching import stored_terms
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.group_sampler import GroupSampler
from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.rollouts.proofs.attempt import ProofAttempt, TacticStep, theorem_of
from lightning_gfn.rollouts.proofs.episode_runner import EpisodeRunner
from lightning_gfn.rollouts.proofs.proving import FoundEpisode, Proving
from lightning_gfn.rollouts.rollout_batch import SampledBatch
from lightning_gfn.types import CORRECT, Problem, Rollouts


class EpisodeSampler(GroupSampler):
    """A group of attempts at every theorem, one step of a trajectory for each tactic.

    The context of a step is the prompt of its state and the tactics so far, its action the tactic. Attempts that are
    given (replayed, found by a search, a reference proof) come first in their group. A reference proof is run through
    the environment, which must accept it; if it does not, the attempt is sampled on-policy and counted in
    ``fallbacks_reference``.

    A theorem that could not be stated is left out of the batch and counted; if that holds for all of them, the batch
    consists of attempts at the bare statements, which Lean refuses (in the first batch of a run it is an error).

    Args:
        proving: environment and prompt.
        num_samples: attempts at each theorem.
        behaviour: where they come from.
        seed: key of all random numbers.

    Raises:
        ValueError: if ``num_samples`` is below 1, or there is nothing that searches for ``behaviour.search``.
    """

    def __init__(self, proving: Proving, *, num_samples: int, behaviour: BehaviourMix, seed: int) -> None:
        super().__init__(num_samples=num_samples, behaviour=behaviour, seed=seed)
        if behaviour.search > 0.0 and proving.search is None:
            raise ValueError(f"behaviour.search is {behaviour.search}, but nothing searches: set model.proving.search")
        self.proving = proving

    @torch.no_grad()
    def collect(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        rollout_step: int,
        buffer: Buffer | None,
        device: torch.device | str,
        attempt: int = 0,
    ) -> SampledBatch:
        """Attempt theorems; see ``GroupSampler.collect``.

        Args:
            policy: samples tactics.
            problems: P theorems with different ids.
            rollout_step: rollout batch counter, part of the random key.
            buffer: to replay from.
            device: of the returned tensors.
            attempt: which attempt at these problems in this rollout batch.

        Returns:
            Trajectories with one step for each tactic and their episodes, and what searching cost.

        Raises:
            ValueError: if a problem occurs twice or is no theorem, there is no buffer to replay from, or no theorem of
                the first batch of a run could be stated.
        """
        self.check(problems, buffer)
        found, costs = self._search(policy, problems, rollout_step)
        first = attempt * self.num_samples
        attempts = [
            member
            for p, problem in enumerate(problems)
            for member in self._group(p, problem, policy, rollout_step, buffer, first, found.get(p))
        ]
        runner = EpisodeRunner(
            policy, self.proving, self.draw_at(rollout_step), device, max_steps=self.proving.max_steps
        )
        runner.run(attempts)
        unstated = {member.problem: member for member in attempts if not member.moves}
        begun = [member for member in attempts if member.moves]
        if not begun:
            if rollout_step == 0 and attempt == 0:
                raise ValueError(_why_none(unstated))
            begun = attempts
            for member in begun:
                member.refuse()
            runner.run(begun)
        rollouts = attempt_rollouts(problems, begun, device)
        metrics = {
            "statement_failures": float(len(unstated)),
            **_metrics(begun),
            **self.fallbacks(rollouts, rollout_step),
        }
        return SampledBatch(rollouts, costs, metrics)

    def _group(
        self,
        p: int,
        problem: Problem,
        policy: Policy,
        rollout_step: int,
        buffer: Buffer | None,
        first: int,
        found: list[ProofAttempt] | None,
    ) -> list[ProofAttempt]:
        theorem = theorem_of(problem)
        source = self.behaviour.source(problem.id, seed=self.seed, rollout_step=rollout_step)
        given = found if found is not None else []
        if source == "replay" and buffer is not None:
            given = self._replayed(p, problem, theorem, policy, rollout_step, buffer)
        elif source == "reference":
            given = self._reference(p, problem, theorem, policy, rollout_step, first)
        rest = range(first + len(given), first + self.num_samples)
        temperature, truncated = 1.0, source == "tempered"
        if truncated:
            temperature = self.behaviour.temperature(problem.id, seed=self.seed, rollout_step=rollout_step)
        sampled = [
            ProofAttempt(
                p,
                problem.id,
                theorem,
                sample,
                "tempered" if truncated else "on_policy",
                temperature,
                truncated,
            )
            for sample in rest
        ]
        if not self.behaviour.always_reference:
            return given + sampled
        beside = self._reference(p, problem, theorem, policy, rollout_step, first + self.num_samples)
        if not beside:
            beside = [ProofAttempt(p, problem.id, theorem, first + self.num_samples)]
        return beside + given + sampled

    def _reference(
        self, p: int, problem: Problem, theorem: Theorem, policy: Policy, rollout_step: int, sample: int
    ) -> list[ProofAttempt]:
        """A known proof that the policy could produce, still to be run."""
        usable = [
            proof
            for proof in theorem.proofs
            if 0 < len(proof) <= self.proving.max_steps
            and all(policy.can_produce(policy.encode_completion(tactic)) for tactic in proof)
        ]
        if not usable:
            return []
        uniform = keyed_uniform("reference", seed=self.seed, rollout_step=rollout_step, problem_id=problem.id)
        script = usable[int(uniform * len(usable))]
        return [ProofAttempt(p, problem.id, theorem, sample, "reference", script=script)]

    def _replayed(
        self, p: int, problem: Problem, theorem: Theorem, policy: Policy, rollout_step: int, buffer: Buffer
    ) -> list[ProofAttempt]:
        drawn = self.stored(problem, policy, rollout_step, buffer)
        return [
            ProofAttempt(
                p,
                problem.id,
                theorem,
                sample,
                "replay",
                moves=[TacticStep(played.context, played.action) for played in held.steps],
                terms=held.terms,
                completion=held.completion,
            )
            for sample, held in enumerate(drawn)
            if len(held.steps) <= self.proving.max_steps
        ]

    def _search(
        self, policy: Policy, problems: Sequence[Problem], rollout_step: int
    ) -> tuple[dict[int, list[ProofAttempt]], Mapping[str, int]]:
        """What a search found for the problems whose source is ``search``, and what it cost."""
        chosen = [
            p
            for p, problem in enumerate(problems)
            if self.behaviour.source(problem.id, seed=self.seed, rollout_step=rollout_step) == "search"
        ]
        if not chosen or self.proving.search is None:
            return {}, {}
        asked = [problems[p] for p in chosen]
        found = self.proving.search.find(
            policy, asked, self.num_samples, self.proving, seed=self.seed, rollout_step=rollout_step
        )
        attempts = {
            p: [
                self._found(p, problems[p], policy, sample, episode)
                for sample, episode in enumerate(episodes[: self.num_samples])
                if self._is_whole(episode.episode, policy)
            ]
            for p, episodes in zip(chosen, found.episodes, strict=True)
        }
        return attempts, found.costs

    def _is_whole(self, episode: Episode, policy: Policy) -> bool:
        """An attempt as sampling could have made it: played to its end, by tactics that the policy can produce."""
        length, limit = len(episode.tactics), self.proving.max_steps
        ended = length == limit if episode.outcome == "unfinished" else 0 < length <= limit
        return ended and all(policy.can_produce(policy.encode_completion(tactic)) for tactic in episode.tactics)

    def _found(self, p: int, problem: Problem, policy: Policy, sample: int, found: FoundEpisode) -> ProofAttempt:
        episode, prompt = found.episode, self.proving.proof_prompt
        actions = found.actions if found.actions is not None else map(policy.encode_completion, episode.tactics)
        moves = [
            TacticStep(tuple(policy.encode_prompt(prompt(state, episode.tactics[:k]))), tuple(action))
            for k, (state, action) in enumerate(zip(episode.states, actions, strict=True))
        ]
        return ProofAttempt(p, problem.id, theorem_of(problem), sample, "search", moves=moves, episode=episode)


def attempt_rollouts(
    problems: Sequence[Problem], attempts: Sequence[ProofAttempt], device: torch.device | str
) -> Rollouts:
    """Finished attempts as trajectories.

    Args:
        problems: P problems; some may have no attempt.
        attempts: B of them, each of at least one tactic, grouped by problem.
        device: of the tensors.
    """
    moves = [(b, move) for b, attempt in enumerate(attempts) for move in attempt.moves]
    steps = pad_steps([move.context for _, move in moves], [move.action for _, move in moves], device)
    behaviour = stops = None
    if any(move.behaviour_log_pf is not None for _, move in moves):
        behaviour = torch.zeros(steps.action_mask_NT.shape, device=device)
        behaviour[steps.action_mask_NT] = torch.tensor(
            [value for _, move in moves for value in move.behaviour_log_pf or [0.0] * len(move.action)], device=device
        )
        stops = torch.tensor([move.behaviour_log_pstop or 0.0 for _, move in moves], device=device)
    terms = stored_terms([attempt.terms for attempt in attempts], [attempt.length for attempt in attempts], device)
    correct = terms.pop(CORRECT, None)
    return Rollouts(
        problems=tuple(problems),
        problem_index_B=torch.tensor([attempt.problem for attempt in attempts], dtype=torch.int64, device=device),
        trajectory_index_N=torch.tensor([b for b, _ in moves], dtype=torch.int64, device=device),
        steps=steps,
        completions=tuple(attempt.text for attempt in attempts),
        sources=tuple(attempt.source for attempt in attempts),
        behaviour_log_pf_NT=behaviour,
        behaviour_log_pstop_N=stops,
        terms=terms,
        correct_B=correct == 1.0 if correct is not None else None,
        episodes=tuple(attempt.episode for attempt in attempts),
    )


def _metrics(attempts: Sequence[ProofAttempt]) -> dict[str, float]:
    """Outcomes of the attempts that are not replayed, for the log."""
    episodes = [attempt.episode for attempt in attempts if attempt.episode is not None]
    shares = {
        f"share_{outcome}": sum(episode.outcome == outcome for episode in episodes) / max(1, len(episodes))
        for outcome in ("proved", "error", "unfinished")
    }
    return {**shares, "tactics_mean": sum(len(attempt.moves) for attempt in attempts) / len(attempts)}


def _why_none(unstated: dict[int, ProofAttempt]) -> str:
    attempt = next(iter(unstated.values()))
    assert attempt.episode is not None
    return (
        f"none of the {len(unstated)} theorems of the first batch could be started; theorem {attempt.theorem.name!r}: "
        f"{attempt.episode.message or attempt.episode.error_kind}: check its statement, context and imports"
    )
