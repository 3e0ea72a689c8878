"""Tactic steps per second of the embedded Lean: one process, one thread, no cache.

Usage: ``python benchmarks/lean_steps.py [--seconds 5] [--output FILE.json]``. Needs ``lightning-gfn lean install``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.lean_types import TacticState, Theorem

LOGIC = Theorem("logic", "(p q r : Prop) (hp : p) (hq : q) : (p ∧ q) ∨ r")
NATURAL = Theorem("nat", "(a b c : Nat) : a + b + c = c + b + a")
LISTS = Theorem("lists", "(xs ys : List Nat) : (xs ++ ys).length = ys.length + xs.length")
STEPS: tuple[tuple[str, Theorem, str], ...] = (
    ("intro-like step (left)", LOGIC, "left"),
    ("finished by a term, checked", LOGIC, "exact Or.inl ⟨hp, hq⟩"),
    ("type error", LOGIC, "exact hp"),
    ("parse error", LOGIC, "exact ⟨hp,"),
    ("rw", NATURAL, "rw [Nat.add_comm a b]"),
    ("induction", NATURAL, "induction a"),
    ("simp on lists", LISTS, "simp only [List.length_append]"),
    ("omega, checked", NATURAL, "omega"),
)


def rate(work: Callable[[int], object], seconds: float) -> tuple[float, int]:
    """Calls per second, and how many were made."""
    work(0)
    started, calls = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        calls += 1
        work(calls)
    return calls / (time.monotonic() - started), calls


def stepping(lean: EmbeddedLean, theorem: Theorem, tactic: str) -> Callable[[int], None]:
    """Run the tactic on the theorem's first state; what it leads to is released."""
    first = lean.start(theorem)
    assert isinstance(first, TacticState), first

    def work(_: int) -> None:
        result = lean.run_tac(first, tactic)
        if isinstance(result, TacticState):
            lean.release([result])

    return work


def main() -> None:
    """Measure, print the table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row (default: 5)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    reason = EmbeddedLean.unavailable()
    if reason is not None:
        print(f"lean_steps: skipped: {reason}")
        return
    lean = EmbeddedLean(timeout=120)
    started = time.monotonic()
    version = lean.version
    print(f"Lean {version.split(',')[0]}, ready after {time.monotonic() - started:.1f} s")
    works: dict[str, Callable[[int], object]] = {
        name: stepping(lean, theorem, tactic) for name, theorem, tactic in STEPS
    }
    mixed = [stepping(lean, theorem, tactic) for _, theorem, tactic in STEPS]
    works["all of these in turn"] = lambda number: mixed[number % len(mixed)](number)
    works["start of a theorem"] = lambda number: lean.release([lean.start(LOGIC)])  # type: ignore[list-item]
    works["check of a whole proof"] = lambda number: lean.check(LOGIC, ["left", "constructor", "exact hp", "exact hq"])
    rows = []
    try:
        print("per second  work")
        for name, work in works.items():
            per_second, calls = rate(work, arguments.seconds)
            rows.append({"work": name, "per_second": per_second, "calls": calls})
            print(f"{per_second:10.1f}  {name}", flush=True)
        memory = lean.resident_bytes() / 2**30
        print(f"memory {memory:.2f} GiB; load of the machine {os.getloadavg()[0]:.1f}")
    finally:
        lean.close()
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"lean": version, "rows": rows, "memory_gib": memory}, indent=1))


if __name__ == "__main__":
    main()
