"""One attempt at a theorem while it is being made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning_gfn.lean_types import Episode, ErrorKind, LeanError, Outcome, Theorem
from lightning_gfn.rollouts.keyed_sampling import Call
from lightning_gfn.types import Problem, Source


@dataclass(frozen=True)
class TacticStep:
    """One tactic of an attempt, as the policy saw and wrote it.

    Args:
        context: tokens of the prompt.
        action: tokens of the tactic.
        behaviour_log_pf: log-probability of each token under the behaviour, nats; None if it was given.
        behaviour_log_pstop: the same of its stop, 0 where it was forced; None if it was given.
        log_prob: log-probability of tactic and stop at temperature 1, nats; NaN if it was not asked for.
        entropy: mean over the actions of the tactic, nats; NaN if it was not asked for.
        forced: the maximum length ended it.
    """

    context: tuple[int, ...]
    action: tuple[int, ...]
    behaviour_log_pf: tuple[float, ...] | None = None
    behaviour_log_pstop: float | None = None
    log_prob: float = float("nan")
    entropy: float = float("nan")
    forced: bool = False


@dataclass
class ProofAttempt:
    """One attempt at a theorem: what it is for, and how far it has come.

    Args:
        problem: index of its problem in the batch.
        problem_id: of the problem; part of the key of its random numbers.
        theorem: what is to be proved.
        sample: index among the problem's samples; part of the key.
        source: where its tactics come from.
        temperature: of sampling.
        truncated: top-k and top-p apply to it.
        script: tactics to play instead of sampling, which must prove the theorem; if they do not, the attempt becomes
            an on-policy one.
        moves: its tactics so far.
        states: the text of the state before each tactic, and of the present one.
        tactics: texts of the tactics so far.
        episode: how it ended; None while it is being made, and for replayed ones.
        terms: stored reward terms of a replayed attempt.
        completion: its text, if it is replayed.
        seconds: that the environment worked for it.
        refusal: the answer to any tactic, without asking, where the theorem could not be stated.
    """

    problem: int
    problem_id: str
    theorem: Theorem
    sample: int
    source: Source = "on_policy"
    temperature: float = 1.0
    truncated: bool = False
    script: Sequence[str] | None = None
    moves: list[TacticStep] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    tactics: list[str] = field(default_factory=list)
    episode: Episode | None = None
    terms: Mapping[str, tuple[float, ...]] | None = None
    completion: str = ""
    seconds: float = 0.0
    refusal: LeanError | None = None

    @property
    def is_finished(self) -> bool:
        """Nothing is left to be played."""
        return self.episode is not None or self.terms is not None

    @property
    def text(self) -> str:
        """The tactics, one below the other."""
        return self.episode.script if self.episode is not None else self.completion

    @property
    def length(self) -> int:
        """Action tokens, the stop of every tactic but the last among them."""
        return sum(len(move.action) + 1 for move in self.moves) - 1

    def call(self, context: Sequence[int]) -> Call:
        """The call to the policy that gives its next tactic."""
        return Call(context, self.problem_id, self.sample, len(self.moves), self.temperature, self.truncated)

    def end(
        self,
        outcome: Outcome,
        message: str = "",
        *,
        kind: ErrorKind | None = None,
        axioms: tuple[str, ...] = (),
        final_state: str = "",
    ) -> None:
        """Close the attempt.

        Args:
            outcome: how it ended.
            message: what was said of the last tactic.
            kind: of the failure.
            axioms: of the proof.
            final_state: the state after the last tactic, if unfinished.
        """
        states = tuple(self.states[: len(self.tactics)])
        self.episode = Episode(
            states, tuple(self.tactics), outcome, message, final_state, kind, axioms, round(self.seconds, 6)
        )

    def refuse(self) -> None:
        """Begin again at the bare statement, where Lean refuses every tactic, because it refused the statement."""
        assert self.episode is not None
        self.refusal = LeanError(self.episode.message, self.episode.error_kind or "statement")
        self.episode, self.script, self.source = None, None, "on_policy"
        self.states = [self.theorem.statement or self.theorem.name]

    def restart_on_policy(self) -> None:
        """Forget the given tactics, which did not prove the theorem."""
        self.script, self.source = None, "on_policy"
        self.moves, self.tactics = [], []
        del self.states[1:]


def theorem_of(problem: Problem) -> Theorem:
    """What is to be proved.

    Raises:
        ValueError: the problem is no theorem; names it.
    """
    if problem.theorem is None:
        raise ValueError(f"problem {problem.id!r} is no theorem: remove model.proving, or choose data with theorems")
    return problem.theorem
