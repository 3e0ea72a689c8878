"""Random attempts at small theorems, as training makes them: all proceed together, one tactic a round.

Tactics are drawn at random, so that states, errors and proofs occur; a repeat draws the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import LeanError, ProofFinished, StepResult, TacticState, Theorem

PROPOSITIONAL = [
    "(p q : Prop) (hp : p) (hq : q) : p ∧ q",
    "(p q : Prop) : p ∧ q → q ∧ p",
    "(p q : Prop) (h : p ∨ q) : q ∨ p",
    "(p q r : Prop) (f : p → q) (g : q → r) : p → r",
    "(p q r : Prop) : (p → q → r) → p ∧ q → r",
    "(p q : Prop) (hp : p) : p ∨ q",
    "(p q r : Prop) (h : p ∧ (q ∨ r)) : (p ∧ q) ∨ (p ∧ r)",
    "(p q : Prop) : (p → q) → ¬q → ¬p",
]
PROPOSITIONAL_TACTICS = [
    "intro h", "intro h g", "cases h", "constructor", "assumption", "left", "right", "exact hp", "exact hq", "apply f",
    "apply g", "exact h", "trivial",
]  # fmt: skip
NATURAL = [
    "(a b : Nat) : a + b = b + a",
    "(a b c : Nat) (h : a ≤ b) : a ≤ b + c",
    "(a b : Nat) (h : a < b) : ¬ b ≤ a",
    "(xs ys : List Nat) : (xs ++ ys).length = ys.length + xs.length",
]
NATURAL_TACTICS = [
    "omega", "simp", "rw [Nat.add_comm]", "intro h", "induction a", "cases b", "exact Nat.add_comm a b", "rfl",
    "rw [List.length_append]", "constructor",
]  # fmt: skip
DEPTH, TRIES = 4, 12
Ask = Callable[[list[tuple[Theorem, list[str], str]]], list[StepResult]]


def attempts_of(embedded: bool, per_theorem: int) -> list[tuple[Theorem, list[str]]]:
    """So many attempts at each theorem, and the tactics that may be drawn for it."""
    found = [(Theorem(f"p{i}", text), PROPOSITIONAL_TACTICS) for i, text in enumerate(PROPOSITIONAL)]
    if embedded:
        found += [(Theorem(f"n{i}", text), NATURAL_TACTICS) for i, text in enumerate(NATURAL)]
    return [one for one in found for _ in range(per_theorem)]


def run(ask: Ask, attempts: list[tuple[Theorem, list[str]]]) -> int:
    """Number of steps; an error costs one of the tries and leaves the state as it is."""
    rng = random.Random(0)
    open_attempts = [(theorem, tactics, [], TRIES) for theorem, tactics in attempts]
    steps = 0
    while open_attempts:
        asked = [(theorem, script, rng.choice(tactics)) for theorem, tactics, script, _ in open_attempts]
        answers = ask(asked)
        steps += len(asked)
        following = []
        for (theorem, tactics, script, left), (_, _, tactic), answer in zip(open_attempts, asked, answers, strict=True):
            if isinstance(answer, TacticState) and len(script) + 1 < DEPTH:
                following.append((theorem, tactics, [*script, tactic], left))
            elif isinstance(answer, LeanError) and left > 1:
                following.append((theorem, tactics, script, left - 1))
        open_attempts = following
    return steps


def by_pool(pool: LeanPool) -> Ask:
    """Ask a pool, all at once."""

    def ask(questions: list[tuple[Theorem, list[str], str]]) -> list[StepResult]:
        return [future.result() for future in [pool.run_tac(*question) for question in questions]]

    return ask


def by_loop(backend: LeanBackend) -> Ask:
    """Ask a backend, one after the other; its states are kept, finished proofs are checked as the pool does."""
    states: dict[tuple[str, tuple[str, ...]], TacticState] = {}

    def ask(questions: list[tuple[Theorem, list[str], str]]) -> list[StepResult]:
        answers = []
        for theorem, script, tactic in questions:
            if (theorem.name, ()) not in states:
                first = backend.start(theorem)
                if not isinstance(first, TacticState):
                    raise RuntimeError(f"{theorem.statement}: {first.message}")
                states[(theorem.name, ())] = first
            answer = backend.run_tac(states[(theorem.name, tuple(script))], tactic)
            if isinstance(answer, TacticState):
                states[(theorem.name, (*script, tactic))] = answer
            elif isinstance(answer, ProofFinished):
                backend.check(theorem, [*script, tactic])
            answers.append(answer)
        return answers

    return ask
