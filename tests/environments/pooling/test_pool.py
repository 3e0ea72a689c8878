"""The pool answers as its backend does, whatever happens to the workers."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.environments.pooling.workers import LeanWorker
from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState, Theorem

OR = Theorem("or", "(p q : Prop) (h : p) : p ∨ q")
THEOREMS = [
    Theorem("and", "(p q : Prop) (hp : p) (hq : q) : p ∧ q"),
    Theorem("swap", "(p q : Prop) : p ∧ q → q ∧ p"),
    Theorem("or", "(p q : Prop) (h : p ∨ q) : q ∨ p"),
    Theorem("chain", "(p q r : Prop) (f : p → q) (g : q → r) : p → r"),
    Theorem("unstatable", "(n : Nat) : n = n"),
]
TACTICS = [
    "intro h", "cases h", "constructor", "assumption", "left", "right", "exact hp", "exact hq", "apply g", "apply f",
    "trivial", "exact nothing",
]  # fmt: skip
Steps = list[tuple[Theorem, tuple[str, ...], str]]


@pytest.fixture
def make_pool() -> Iterator[Callable[..., LeanPool]]:
    pools = []

    def make(backend: LeanBackend | None = None, **options: Any) -> LeanPool:
        pools.append(LeanPool(backend or FakeLean(), **{"timeout": 20.0, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def walk(backend: LeanBackend, breadth: int = 12, depth: int = 3) -> tuple[Steps, list[StepResult]]:
    """Steps breadth first and what the backend itself answers: a loop over it."""
    steps: Steps = []
    answers: list[StepResult] = []
    for theorem in THEOREMS:
        first = backend.start(theorem)
        level = [((), first)] if isinstance(first, TacticState) else []
        for _ in range(depth):
            new: list[tuple[tuple[str, ...], TacticState]] = []
            for script, state in level:
                for tactic in TACTICS[:breadth]:
                    answer = backend.run_tac(state, tactic)
                    steps.append((theorem, script, tactic))
                    answers.append(answer)
                    if isinstance(answer, TacticState):
                        new.append(((*script, tactic), answer))
            level = new
    return steps, answers


STEPS, ANSWERS = walk(FakeLean())
"""All steps to depth 3, and their true answers."""


def ask(pool: LeanPool, steps: Steps) -> list[StepResult]:
    futures = [pool.run_tac(*step) for step in steps]
    return [future.result(timeout=30) for future in futures]


def shuffled(seed: int) -> tuple[Steps, list[StepResult]]:
    order = list(range(len(STEPS)))
    random.Random(seed).shuffle(order)
    return [STEPS[i] for i in order], [ANSWERS[i] for i in order]


def test_the_walk_finds_states_errors_and_proofs() -> None:
    assert {type(answer) for answer in ANSWERS} == {TacticState, LeanError, ProofFinished}
    assert len(STEPS) > 250


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("cache_size", [0, 10_000])
def test_answers_are_those_of_a_loop(make_pool: Callable[..., LeanPool], num_workers: int, cache_size: int) -> None:
    pool = make_pool(num_workers=num_workers, cache_size=cache_size)
    steps, answers = shuffled(num_workers)
    assert ask(pool, steps) == answers
    totals = pool.counters()
    assert totals["steps"] == len(steps)
    assert totals["errors"] == sum(isinstance(answer, LeanError) for answer in answers)
    assert totals["restarts"] == totals["faults"] == 0


def test_a_confused_worker_would_be_seen(make_pool: Callable[..., LeanPool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a state is looked up by its theorem alone."""
    monkeypatch.setattr("lightning_gfn.environments.pooling.workers.theorem_key", lambda theorem: 0)
    steps, answers = shuffled(0)
    assert ask(make_pool(num_workers=2), steps) != answers


def test_states_carry_no_key_of_a_worker(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool()
    first = pool.start(OR).result()
    second = pool.run_tac(OR, [], "left").result()
    assert isinstance(first, TacticState) and isinstance(second, TacticState) and first.key == second.key == ()
    unstatable = pool.start(THEOREMS[-1]).result()
    assert isinstance(unstatable, LeanError) and unstatable.kind == "statement"
    assert pool.run_tac(THEOREMS[-1], [], "rfl").result() == unstatable


@pytest.mark.parametrize("num_workers", [1, 3])
def test_crashes_change_nothing(make_pool: Callable[..., LeanPool], num_workers: int) -> None:
    pool = make_pool(FakeLean(crash_every=17), num_workers=num_workers, cache_size=0)
    steps, answers = shuffled(5)
    assert ask(pool, steps) == answers
    totals = pool.counters()
    assert totals["restarts"] > 10 and totals["replayed"] > 10 and totals["faults"] == 0


def test_without_retries_a_crash_is_a_fault(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(crash_every=5), retries=0, cache_size=0)
    answers = ask(pool, STEPS[:40])
    faults = [answer for answer in answers if isinstance(answer, LeanError) and answer.kind == "fault"]
    assert faults and "the process died" in faults[0].message
    assert pool.counters()["faults"] == len(faults)


def test_states_that_were_dropped_are_rebuilt(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(max_states_per_worker=1, cache_size=0)
    steps, answers = shuffled(2)
    assert ask(pool, steps) == answers
    assert pool.counters()["replayed"] > 100


def test_only_so_many_states_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_gfn.environments.pooling.cache import Counters
    from lightning_gfn.environments.pooling.workers import Request, WorkerLimits

    backend, tally = FakeLean(), Counters()
    worker = LeanWorker(backend, WorkerLimits(max_states=10), tally)
    for theorem, script, tactic in STEPS:
        worker.perform(Request("tactic", theorem, script, tactic))
        assert backend.num_states <= 10
    monkeypatch.setattr(FakeLean, "release", lambda self, states: None)
    worker.restart()
    for theorem, script, tactic in STEPS:
        worker.perform(Request("tactic", theorem, script, tactic))
    assert backend.num_states > 10


def test_a_deadly_tactic_is_sent_twice_and_never_again(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(crash_on=["exact bomb"]), num_workers=2)
    for _ in range(4):
        answer = pool.run_tac(OR, [], "exact bomb").result()
        assert isinstance(answer, LeanError) and answer.kind == "fault"
        assert isinstance(pool.run_tac(OR, [], "left").result(), TacticState)
    assert pool.counters()["restarts"] == 2 and pool.counters()["faults"] == 4
    careful = make_pool(FakeLean(crash_on=["exact bomb"]), retries=0)
    for _ in range(4):
        careful.run_tac(OR, [], "exact bomb").result()
    assert careful.counters()["restarts"] == 2


@pytest.mark.parametrize(("cache_timeouts", "restarts"), [(False, 2), (True, 1)])
def test_timeouts_are_not_tried_again_at_once(
    make_pool: Callable[..., LeanPool], cache_timeouts: bool, restarts: int
) -> None:
    pool = make_pool(FakeLean(timeout_on=["exact slow"]), cache_timeouts=cache_timeouts)
    for _ in range(3):
        answer = pool.run_tac(OR, [], "exact slow").result()
        assert isinstance(answer, LeanError) and answer.kind == "timeout"
    assert pool.counters()["restarts"] == restarts and pool.counters()["timeouts"] == 3


def test_a_worker_that_hangs_is_replaced(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(hang_on=["exact forever"]), num_workers=2, timeout=0.3, cache_size=0)
    hanging = pool.run_tac(OR, [], "exact forever")
    answers = ask(pool, STEPS[:100])
    assert answers == ANSWERS[:100]
    answer = hanging.result(timeout=10)
    assert isinstance(answer, LeanError) and answer.kind == "timeout" and "environment.timeout" in answer.message
    assert ask(pool, STEPS[:100]) == ANSWERS[:100]
    assert pool.counters()["restarts"] == 1


def test_finished_proofs_are_checked(make_pool: Callable[..., LeanPool]) -> None:
    """Planted: a backend that says it had finished."""
    answer = make_pool(FakeLean(lie_on=["exact lie"])).run_tac(OR, ["left"], "exact lie").result()
    assert isinstance(answer, LeanError) and answer.kind == "unsound" and "Unknown identifier" in answer.message
    trusting = make_pool(FakeLean(lie_on=["exact lie"]), verify=False)
    assert trusting.run_tac(OR, ["left"], "exact lie").result() == ProofFinished()


def test_unsound_proofs_are_counted(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(lie_on=["exact lie"]))
    pool.run_tac(OR, [], "exact lie").result()
    pool.run_tac(OR, [], "exact lie").result()
    assert pool.counters()["unsound"] == 2 and pool.counters()["cached"] == 1


class Counting(FakeLean):
    """Counts what all copies together were asked."""

    asked: list[str] = []

    def run_tac(self, state: TacticState, tactic: str) -> StepResult:
        self.asked.append(tactic)
        return super().run_tac(state, tactic)


def test_the_cache_changes_no_answer_and_saves_work(make_pool: Callable[..., LeanPool]) -> None:
    Counting.asked.clear()
    pool = make_pool(Counting(), num_workers=2)
    assert ask(pool, STEPS[:150]) == ask(pool, STEPS[:150]) == ANSWERS[:150]
    assert pool.counters()["cached"] == 150
    assert len(Counting.asked) - pool.counters()["replayed"] == 150
    again = [pool.check(OR, ["left", "exact h"]).result() for _ in range(2)]
    assert again == [CheckResult(True)] * 2
    assert pool.counters()["steps"] == 300


def test_the_same_question_at_the_same_time_is_asked_once(make_pool: Callable[..., LeanPool]) -> None:
    Counting.asked.clear()
    pool = make_pool(Counting(latency=0.05), num_workers=4)
    answers = [future.result() for future in [pool.run_tac(OR, [], "left") for _ in range(10)]]
    assert len(set(map(str, answers))) == 1 and Counting.asked == ["left"]
    assert pool.counters()["cached"] == 9


def test_the_cache_is_bounded() -> None:
    from lightning_gfn.environments.pooling.cache import ResultCache

    cache = ResultCache(2)
    for key in "abac":
        cache.put(key, ProofFinished())
    assert cache.get("a") and cache.get("c") and cache.get("b") is None and len(cache) == 2
    cache.keep("f", LeanError("", "fault"))
    cache.keep("t", LeanError("", "timeout"))
    assert cache.get("f") is None and cache.get("t") is None


class NoLeft:
    """A stand-in for the rules."""

    def refusal(self, tactic: str) -> str | None:
        return "`left` is not allowed" if tactic == "left" else None


def test_rules_bar_tactics(make_pool: Callable[..., LeanPool]) -> None:
    Counting.asked.clear()
    pool = make_pool(Counting(), rules=NoLeft())
    assert pool.run_tac(OR, [], "left").result() == LeanError("`left` is not allowed", "forbidden")
    assert pool.check(OR, ["left", "exact h"]).result() == CheckResult(False, "`left` is not allowed")
    assert Counting.asked == [] and pool.counters()["forbidden"] == pool.counters()["errors"] == 1
    assert isinstance(pool.run_tac(OR, [], "right").result(), TacticState)


@pytest.mark.parametrize(
    ("backend", "options"),
    [(FakeLean(), {"max_steps_per_worker": 10}), (FakeLean(growth_mb=1.0), {"max_resident_mb": 20.0})],
)
def test_processes_are_recycled(make_pool: Callable[..., LeanPool], backend: FakeLean, options: dict[str, Any]) -> None:
    pool = make_pool(backend, cache_size=0, **options)
    steps, answers = shuffled(7)
    assert ask(pool, steps) == answers
    assert pool.counters()["recycled"] > 5 and pool.counters()["restarts"] == 0
    assert make_pool(copy.deepcopy(backend), max_steps_per_worker=0, max_resident_mb=0).counters()["recycled"] == 0


def test_a_wrong_script_is_a_fault_without_restart(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool()
    answer = pool.run_tac(OR, ["constructor", "nonsense"], "left").result()
    assert isinstance(answer, LeanError) and answer.kind == "fault" and "tactic 2 of the script" in answer.message
    assert pool.counters()["restarts"] == 0


class Meeting(FakeLean):
    """A call returns when four copies are called at the same time."""

    barrier = threading.Barrier(4)

    def start(self, theorem: Theorem) -> TacticState | LeanError:
        self.barrier.wait(timeout=10)
        return super().start(theorem)


def test_workers_work_at_the_same_time(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(Meeting(), num_workers=4)
    futures = [pool.start(Theorem(f"t{i}", OR.statement)) for i in range(8)]
    assert all(isinstance(future.result(), TacticState) for future in futures)
