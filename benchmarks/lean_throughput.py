"""Tactic steps per second of the pool: 1 and 2 workers, cache on and off, beside a loop over the backend itself.

As in training, attempts at every theorem proceed together: each round every open attempt asks for its next tactic and
all answers are waited for. Tactics are drawn at random, so that states, errors and proofs occur. A repeat draws the
same tactics with new workers and an empty cache; start-up is not counted, medians over the repeats are printed.
Run alone: ``python benchmarks/lean_throughput.py [--backends fake embedded] [--repeats 3] [--output lean.json]``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import TRIAL, LeanPool
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
BACKENDS = ["fake", "fake-1ms", "embedded"]
Ask = Callable[[list[tuple[Theorem, list[str], str]]], list[StepResult]]


def attempts_of(embedded: bool, per_theorem: int) -> list[tuple[Theorem, list[str]]]:
    """So many attempts at each theorem, and the tactics that may be drawn for it."""
    found = [(Theorem(f"p{i}", text), PROPOSITIONAL_TACTICS) for i, text in enumerate(PROPOSITIONAL)]
    if embedded:
        found += [(Theorem(f"n{i}", text), NATURAL_TACTICS) for i, text in enumerate(NATURAL)]
    return [one for one in found for _ in range(per_theorem)]


def run(ask: Ask, attempts: list[tuple[Theorem, list[str]]], depth: int, tries: int) -> tuple[int, int]:
    """Number of steps and of proofs; an error costs one of the tries and leaves the state as it is."""
    rng = random.Random(0)
    open_attempts = [(theorem, tactics, [], tries) for theorem, tactics in attempts]
    steps = proofs = 0
    while open_attempts:
        asked = [(theorem, script, rng.choice(tactics)) for theorem, tactics, script, _ in open_attempts]
        answers = ask(asked)
        steps += len(asked)
        proofs += sum(isinstance(answer, ProofFinished) for answer in answers)
        following = []
        for (theorem, tactics, script, left), (_, _, tactic), answer in zip(open_attempts, asked, answers, strict=True):
            if isinstance(answer, TacticState) and len(script) + 1 < depth:
                following.append((theorem, tactics, [*script, tactic], left))
            elif isinstance(answer, LeanError) and left > 1:
                following.append((theorem, tactics, script, left - 1))
        open_attempts = following
    return steps, proofs


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


def measure(name: str, workers: int, cache: bool, per_theorem: int) -> dict[str, object]:
    """One run with new workers; 0 workers are a loop over the backend."""
    embedded = name == "embedded"
    backend: LeanBackend = EmbeddedLean() if embedded else FakeLean(latency=0.001 if name == "fake-1ms" else 0.0)
    attempts = attempts_of(embedded, per_theorem)
    pool = LeanPool(backend, num_workers=max(workers, 1), cache_size=50_000 * cache)
    if workers:
        # Every worker is busy with a first request before the clock starts.
        for future in [pool.check(TRIAL, ["exact hp"] + ["skip"] * n) for n in range(4 * workers)]:
            future.result()
    else:
        backend.start(TRIAL)
    begun = time.perf_counter()
    steps, proofs = run(by_pool(pool) if workers else by_loop(backend), attempts, depth=4, tries=12)
    seconds = time.perf_counter() - begun
    counted = pool.counters()
    pool.close()
    backend.close()
    return {
        "backend": name, "workers": workers, "cache": cache, "steps": steps, "proofs": proofs,
        "steps_per_second": steps / seconds, "cached": counted["cached"], "replayed": counted["replayed"],
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--attempts", type=int, default=16, help="attempts at each theorem")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write all runs as JSON")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    print("| backend | workers | cache | steps/s (median, min to max) | steps | from cache | replayed |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.backends:
        reason = EmbeddedLean.unavailable() if name == "embedded" else None
        if reason:
            print(f"| {name} | skipped: {reason} | | | | | |")
            continue
        for workers in arguments.workers:
            for cache in (False, True) if workers else (False,):
                runs = [measure(name, workers, cache, arguments.attempts) for _ in range(arguments.repeats)]
                rows += runs
                speeds = [float(str(one["steps_per_second"])) for one in runs]
                print(
                    f"| {name} | {workers or 'loop'} | {'on' if cache else 'off'} | {statistics.median(speeds):,.0f} "
                    f"({min(speeds):,.0f} to {max(speeds):,.0f}) | {runs[-1]['steps']} | {runs[-1]['cached']:.0f} | "
                    f"{runs[-1]['replayed']:.0f} |",
                    flush=True,
                )
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
