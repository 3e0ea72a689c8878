"""What the search for proofs of a theorem gave, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_gfn.rollouts.search.search_tree import TacticResult
from lightning_gfn.types import Problem

Status = Literal["proved", "exhausted", "budget", "statement"]


@dataclass(frozen=True)
class SearchBudget:
    """What the search for one theorem may cost; it ends at the first limit that it meets.

    A search with a larger budget of nodes begins as the one with a smaller budget, so that one search tells the result
    of every smaller budget. Limits on seconds make results depend on the machine.

    Args:
        nodes: states expanded.
        environment_steps: tactics run; None for no limit.
        seconds: wall time; None for no limit.
        proofs: proofs after which the search stops.

    Raises:
        ValueError: if a limit is not above 0.
    """

    nodes: int = 64
    environment_steps: int | None = None
    seconds: float | None = None
    proofs: int = 1

    def __post_init__(self) -> None:
        for name in ("nodes", "environment_steps", "seconds", "proofs"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"budget.{name}={value} must be above 0")


@dataclass(frozen=True)
class FoundProof:
    """A proof that was checked from its statement.

    Args:
        script: its tactics.
        log_prob: log q of them, nats.
        nodes: states expanded when it was found.
        environment_steps: tactics run until then.
        seconds: wall time until then.
        axioms: that it uses.
    """

    script: tuple[str, ...]
    log_prob: float
    nodes: int
    environment_steps: int
    seconds: float
    axioms: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """The search for one theorem.

    Args:
        problem: whose theorem was searched.
        status: ``proved``; ``exhausted``: nothing was left to expand; ``budget``: a limit was met; ``statement``: the
            theorem could not be stated.
        proofs: in the order in which they were found.
        nodes: states expanded.
        environment_steps: tactics run.
        errors: of them failed.
        unsound: of them closed the goals, but not by a proof that survived the check.
        generated_tokens: that the policy wrote for it.
        too_long: states expanded in vain, since their prompts are longer than the policy takes.
        states: different states reached, by their goals.
        policy_seconds: its part of the policy's time; a call is shared equally among the states in it.
        environment_seconds: time from asking Lean to its last answer, waiting for other theorems' tactics included.
        seconds: wall time.
        message: why the theorem could not be stated.
        tried: every tactic that was run, if it was asked for.
    """

    problem: Problem
    status: Status
    proofs: tuple[FoundProof, ...]
    nodes: int
    environment_steps: int
    errors: int
    unsound: int
    generated_tokens: int
    too_long: int
    states: int
    policy_seconds: float
    environment_seconds: float
    seconds: float
    message: str = ""
    tried: tuple[TacticResult, ...] = ()

    @property
    def is_proved(self) -> bool:
        """At least one proof was found."""
        return bool(self.proofs)

    def is_proved_within(self, nodes: int) -> bool:
        """What a search with this budget of nodes would have said."""
        return self.is_proved and self.proofs[0].nodes <= nodes
