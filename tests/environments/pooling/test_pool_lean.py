"""The pool over the embedded Lean: the answers of a loop, also after its processes were killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.environments.rules import TacticRules
from lightning_gfn.lean_types import LeanError, ProofFinished, StepResult, TacticState, Theorem

pytestmark = pytest.mark.lean

ADD = Theorem("add", "(a b : Nat) : a + b = b + a")
SWAP = Theorem("swap", "(p q : Prop) : p ∧ q → q ∧ p")
STEPS: list[tuple[Theorem, tuple[str, ...], str]] = [
    (SWAP, (), "intro h"),
    (SWAP, ("intro h",), "cases h"),
    (SWAP, ("intro h",), "constructor"),
    (SWAP, ("intro h", "constructor"), "exact h.2"),
    (SWAP, ("intro h", "constructor", "exact h.2"), "exact h.1"),
    (SWAP, ("intro h", "constructor", "exact h.2"), "exact h.2"),
    (ADD, (), "omega"),
    (ADD, (), "induction a"),
    (ADD, ("induction a",), "simp"),
    (ADD, (), "exact Nat.mul_comm a b"),
    (ADD, (), "exact Nat.add_comm a b"),
]


@pytest.fixture(scope="module")
def pool(lean: EmbeddedLean) -> Iterator[LeanPool]:
    made = LeanPool(
        EmbeddedLean(timeout=120, check_timeout=300, start_timeout=500), num_workers=1, timeout=600, cache_size=0
    )
    yield made
    made.close()


def loop(backend: EmbeddedLean) -> list[StepResult]:
    answers = []
    for theorem, script, tactic in STEPS:
        state: StepResult = backend.start(theorem)
        for earlier in script:
            assert isinstance(state, TacticState)
            state = backend.run_tac(state, earlier)
        assert isinstance(state, TacticState)
        answers.append(backend.run_tac(state, tactic))
    return answers


def ask(pool: LeanPool) -> list[StepResult]:
    return [future.result() for future in [pool.run_tac(*step) for step in STEPS]]


def test_answers_are_those_of_a_loop(lean: EmbeddedLean, pool: LeanPool) -> None:
    pool.setup()
    answers = ask(pool)
    assert answers == loop(lean)
    assert isinstance(answers[4], ProofFinished) and isinstance(answers[5], LeanError)


def test_a_killed_process_changes_nothing(lean: EmbeddedLean, pool: LeanPool) -> None:
    before = ask(pool)
    restarts = pool.counters()["restarts"]
    process = pool._running()._slots[0].worker.backend._process  # type: ignore[attr-defined]
    os.killpg(process._process.pid, signal.SIGKILL)
    assert ask(pool) == before
    assert pool.counters()["restarts"] == restarts + 1 and pool.counters()["faults"] == 0


def test_a_false_theorem_stays_unproved(pool: LeanPool) -> None:
    false = Theorem("false", ": 1 = 2")
    for cheat in ("sorry", "native_decide", "set_option debug.skipKernelTC true in decide +kernel", "decide"):
        answer = pool.run_tac(false, (), cheat).result()
        assert isinstance(answer, LeanError), cheat
        assert not pool.check(false, [cheat]).result().verified


def test_rules_stand_before_lean() -> None:
    barred = LeanPool(EmbeddedLean(), rules=TacticRules())
    answer = barred.run_tac(ADD, (), "omega").result()
    assert isinstance(answer, LeanError) and answer.kind == "forbidden"
    barred.close()
