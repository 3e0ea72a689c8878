"""Theorems and attempts at proving them, as plain data."""

from __future__ import annotations

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


"""From these strengths on, feedback also names the tactic and the kind of its error, what Lean said, the state in
which it was said, and a known proof."""
