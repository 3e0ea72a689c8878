"""Theorems and attempts at proving them, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

NO_GOALS = "no goals"
"""The text of a state in which nothing is left to prove, as LeanDojo writes it."""

ErrorKind = Literal["tactic", "forbidden", "timeout", "unsound", "fault", "statement"]
Outcome = Literal["proved", "error", "unfinished"]


@dataclass(frozen=True)
class Location:
    """Where a traced theorem stands in a repository of Lean code.

    Args:
        url: of the repository.
        commit: its 40 hex digits.
        file_path: path inside it.
        full_name: fully qualified name of the theorem.
    """

    url: str
    commit: str
    file_path: str
    full_name: str


@dataclass(frozen=True)
class Theorem:
    """One statement to prove.

    Args:
        name: stable and unique within its data set.
        statement: binders, colon and type, as they follow the name: ``(p q : Prop) (hp : p) : p ∨ q``. Empty where
            only ``location`` says what is to be proved.
        context: earlier top-level commands that the statement rests on (``variable``, ``open``, definitions).
        imports: modules that must be imported.
        proofs: known proofs, each a sequence of tactics that closes the statement's goal.
        location: where the theorem was traced; None for a statement that stands alone.
    """

    name: str
    statement: str
    context: tuple[str, ...] = ()
    imports: tuple[str, ...] = ("Init",)
    proofs: tuple[tuple[str, ...], ...] = ()
    location: Location | None = None


@dataclass(frozen=True)
class TacticState:
    """A state of a proof; two states are equal if their goals are.

    Args:
        goals: each goal as Lean prints it: hypotheses one a line, then ``⊢ goal``.
        key: what the backend knows the state by; not part of the comparison.
    """

    goals: tuple[str, ...]
    key: tuple[int, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """All goals, divided by empty lines."""
        return "\n\n".join(self.goals)


@dataclass(frozen=True)
class ProofFinished:
    """The statement is proved, and the proof was checked again from the statement.

    Args:
        axioms: that the proof uses.
    """

    axioms: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeanError:
    """A tactic (or statement) that Lean, a rule or the time limit refused.

    Args:
        message: what was said.
        kind: ``tactic`` Lean's own error; ``forbidden`` barred by a rule; ``timeout`` too slow or too many heartbeats;
            ``unsound`` closed the goals but did not survive the check; ``fault`` the backend broke, also when it was
            tried again; ``statement`` the theorem could not be stated.
    """

    message: str
    kind: ErrorKind = "tactic"


StepResult = TacticState | ProofFinished | LeanError


@dataclass(frozen=True)
class CheckResult:
    """The verdict on a whole proof, replayed from its statement.

    Args:
        verified: it proves the statement, without ``sorry`` and with no other axioms than Lean's three.
        message: why not; empty if verified.
        axioms: that it uses.
    """

    verified: bool
    message: str = ""
    axioms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Episode:
    """One attempt at a theorem, tactic by tactic.

    Args:
        states: the text of the state before each tactic.
        tactics: what was tried; only the last one can have failed.
        outcome: ``proved`` (and checked); ``error``: the last tactic failed; ``unfinished``: the attempt ran out of
            tactics.
        message: what Lean said of the last tactic, if it failed.
        final_state: the state after the last tactic, if unfinished.
        error_kind: of the failure.
        axioms: of the proof.
        seconds: that the environment worked for it.
    """

    states: tuple[str, ...]
    tactics: tuple[str, ...]
    outcome: Outcome
    message: str = ""
    final_state: str = ""
    error_kind: ErrorKind | None = None
    axioms: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def script(self) -> str:
        """The tactics, one below the other."""
        return "\n".join(self.tactics)


@dataclass(frozen=True)
class ProofPrompt:
    """What a policy reads before it proposes a tactic: the state, and the tactics so far.

        state
        --
        tactic 1
        tactic 2
        --

    With the history in the prompt two different beginnings of a proof are two different contexts, so that the graph of
    a theorem is a tree and the backward policy is 1.

    Args:
        max_state_chars: a longer state is cut at its end, as in ReProver; its first goal comes first.
        history: show the tactics so far.
        max_history_chars: of a longer history the beginning is cut.

    Source: Proof Flow, arXiv:2410.13224, section 3; truncation: Yang et al. 2023, arXiv:2306.15626, section 5.
    """

    max_state_chars: int = 400
    history: bool = True
    max_history_chars: int = 200

    def __post_init__(self) -> None:
        if self.max_state_chars < 1 or self.max_history_chars < 1:
            raise ValueError(
                f"prompt.max_state_chars={self.max_state_chars} and max_history_chars={self.max_history_chars} must be "
                "at least 1"
            )

    def __call__(self, state: str, tactics: Sequence[str] = ()) -> str:
        """The prompt for a state that these tactics led to."""
        shown = state[: self.max_state_chars]
        past = "\n".join(tactics)[-self.max_history_chars :] if self.history and tactics else ""
        return f"{shown}\n--\n{past}\n--\n" if past else f"{shown}\n--\n"


KIND, MESSAGE, STATE, PROOF = 0.25, 0.5, 0.75, 1.0
"""From these strengths on, feedback also names the tactic and the kind of its error, what Lean said, the state in
which it was said, and a known proof."""

KINDS: dict[ErrorKind, str] = {
    "tactic": "failed",
    "forbidden": "is not allowed",
    "timeout": "took too long",
    "unsound": "did not survive the check",
    "fault": "broke Lean",
    "statement": "could not be run",
}


@dataclass(frozen=True)
class LeanWords:
    """What is said of the tactic that failed, or of the goals that were left.

        strength ≥ 0     whether the attempt is a proof
        strength ≥ 0.25  and which tactic failed in what way          (errors)
        strength ≥ 0.5   and Lean's message                           (errors), the goals left   (unfinished)
        strength ≥ 0.75  and the state in which the tactic failed     (errors)
        strength = 1     and the first known proof

    What is not known is left out.

    Args:
        strength: in [0, 1].
        max_chars: of a message or state; the rest is cut.

    Raises:
        ValueError: a number is out of range.

    Source: compiler output as feedback, Feedback Distillation, arXiv:2605.30861.
    """

    strength: float = 0.5
    max_chars: int = 300

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength is {self.strength}, expected 0 (the outcome alone) to 1 (a known proof)")
        if self.max_chars < 1:
            raise ValueError(f"max_chars is {self.max_chars}, expected at least 1")

    def __call__(self, theorem: Theorem, episode: Episode) -> str:
        """Feedback on one attempt: a few sentences."""
        if episode.outcome == "proved":
            sentences = ["The proof is complete."]
        elif episode.outcome == "unfinished":
            sentences = ["The proof is unfinished."]
            if self.strength >= MESSAGE and episode.final_state:
                sentences.append(f"Left to prove: {self.cut(episode.final_state)}")
        else:
            sentences = ["The proof fails.", *self.on_error(episode)]
        if self.strength >= PROOF and theorem.proofs:
            sentences.append("A proof: " + "\n".join(theorem.proofs[0]))
        return " ".join(sentences)

    def on_error(self, episode: Episode) -> list[str]:
        """What is said of a failed tactic."""
        sentences = []
        if self.strength >= KIND and episode.tactics:
            sentences.append(f"The tactic `{self.cut(episode.tactics[-1])}` {KINDS[episode.error_kind or 'tactic']}.")
        if self.strength >= MESSAGE and episode.message:
            sentences.append(f"Lean says: {self.cut(episode.message)}")
        if self.strength >= STATE and episode.states:
            sentences.append(f"The state was: {self.cut(episode.states[-1])}")
        return sentences

    def cut(self, text: str) -> str:
        """At most ``max_chars`` of a text."""
        return text if len(text) <= self.max_chars else text[: self.max_chars] + "…"
