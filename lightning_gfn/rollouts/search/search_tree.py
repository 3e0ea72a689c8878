"""Searches for a proof as trees that grow by one expanded state at a time, and best-first search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState
from lightning_gfn.rollouts.search.tactic_generator import Proposal
from lightning_gfn.types import Problem

Key = tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    """A state that may be expanded, and the tactics that led to it.

    Args:
        state: where it stands.
        script: the tactics so far.
        states: texts of the states before each of them.
        log_prob: log q of the tactics so far, nats.
    """

    state: TacticState
    script: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    log_prob: float = 0.0

    @property
    def depth(self) -> int:
        """Tactics so far."""
        return len(self.script)

    def child(self, proposal: Proposal, state: TacticState) -> Leaf:
        """The state that a tactic leads to."""
        return Leaf(
            state,
            (*self.script, proposal.tactic),
            (*self.states, self.state.text),
            self.log_prob + proposal.log_prob,
        )


@dataclass(frozen=True)
class TacticResult:
    """A tactic that was run.

    Args:
        leaf: in which state.
        proposal: the tactic.
        result: what Lean said.
        check: of the whole proof, if the tactic finished one.
    """

    leaf: Leaf
    proposal: Proposal
    result: StepResult
    check: CheckResult | None = None

    @property
    def is_proof(self) -> bool:
        """It finished a proof that survived the check."""
        return self.check is not None and self.check.verified

    @property
    def state(self) -> TacticState | None:
        """The state that it led to; None if it failed or finished the proof."""
        return None if isinstance(self.result, LeanError | ProofFinished) else self.result

    @property
    def script(self) -> tuple[str, ...]:
        """All tactics up to it."""
        return (*self.leaf.script, self.proposal.tactic)

    @property
    def log_prob(self) -> float:
        """log q of all tactics up to it."""
        return self.leaf.log_prob + self.proposal.log_prob


class SearchTree(ABC):
    """The search for one theorem; a driver asks which states to expand, and tells what came of it.

    Args:
        root: the theorem's first state.
        max_depth: most tactics of a proof.
        transposition: states with equal goals are one node. Off, every script leads to a node of its own.
    """

    def __init__(self, root: Leaf, *, max_depth: int, transposition: bool) -> None:
        self.max_depth = max_depth
        self.transposition = transposition
        self.seen: set[Key] = {root.state.goals}
        """Goals of every state reached."""

    def key(self, leaf: Leaf) -> Key:
        """What makes two states one node."""
        return leaf.state.goals if self.transposition else leaf.script

    @abstractmethod
    def select(self, limit: int) -> list[Leaf]:
        """Up to ``limit`` states to expand next, in order; none if the search has come to its end."""

    @abstractmethod
    def absorb(self, leaf: Leaf, tried: Sequence[TacticResult], value: float) -> None:
        """Take in what the tactics of one selected state gave; called once for each, in the order of selection."""


class LeafValue(ABC):
    """How promising a state is, from 0 (hopeless) to 1 (proved)."""

    @abstractmethod
    def __call__(self, policy: Policy, problems: Sequence[Problem], leaves: Sequence[Leaf]) -> list[float]:
        """Values of states of these problems' theorems."""


class TreeSearch(ABC):
    """A kind of search: makes the trees, and says what a state is worth to them."""

    value: LeafValue | None = None
    """None where the search asks for no values."""

    @abstractmethod
    def tree(self, root: Leaf, max_depth: int) -> SearchTree:
        """A tree of one node, for proofs of at most ``max_depth`` tactics."""
