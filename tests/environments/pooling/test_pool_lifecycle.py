"""The pool from its first use to its end: setup, closing, copies, forks, configuration."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.environments.pooling.scheduler import CLOSED
from lightning_gfn.lean_interfaces import BackendUnavailable, LeanBackend
from lightning_gfn.lean_types import LeanError, StepResult, TacticState, Theorem

OR = Theorem("or", "(p q : Prop) (h : p) : p ∨ q")
TACTICS = ["left", "right", "constructor", "intro h", "assumption", *(f"exact h{i}" for i in range(195))]
Steps = list[tuple[Theorem, tuple[str, ...], str]]
STEPS: Steps = [(OR, (), tactic) for tactic in TACTICS]


def loop(backend: LeanBackend) -> list[StepResult]:
    """The true answers."""
    state = backend.start(OR)
    assert isinstance(state, TacticState)
    return [backend.run_tac(state, tactic) for tactic in TACTICS]


ANSWERS = loop(FakeLean())


@pytest.fixture
def make_pool() -> Iterator[Callable[..., LeanPool]]:
    pools = []

    def make(backend: LeanBackend | None = None, **options: Any) -> LeanPool:
        pools.append(LeanPool(backend or FakeLean(), **{"timeout": 20.0, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def ask(pool: LeanPool, steps: Steps) -> list[StepResult]:
    futures = [pool.run_tac(*step) for step in steps]
    return [future.result(timeout=30) for future in futures]


class Stubborn(FakeLean):
    """Hangs so that even closing does not end it; closing hangs as well."""

    gate = threading.Event()

    def run_tac(self, state: TacticState, tactic: str) -> StepResult:
        if tactic == "exact forever":
            self.gate.wait(20)
        return super().run_tac(state, tactic)

    def close(self) -> None:
        self.gate.wait(20)


def test_closing_does_not_hang(make_pool: Callable[..., LeanPool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_gfn.environments.pooling.scheduler.CLOSE_S", 0.2)
    pool = make_pool(Stubborn(), num_workers=2)
    futures = [pool.run_tac(OR, [], tactic) for tactic in ("exact forever", "left", "right")]
    checked = pool.check(OR, ["exact forever"])
    time.sleep(0.1)
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < 5
    answer = futures[0].result(timeout=1)
    assert answer == LeanError(CLOSED, "fault") and all(future.done() for future in [*futures, checked])
    Stubborn.gate.set()


def test_closing_answers_what_waits_and_the_pool_can_be_used_again(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(latency=0.02), num_workers=2)
    futures = [pool.run_tac(*step) for step in STEPS[:200]]
    futures[3].result()
    pool.close()
    answers = [future.result(timeout=1) for future in futures]
    assert LeanError(CLOSED, "fault") in answers
    assert all(a in (b, LeanError(CLOSED, "fault")) for a, b in zip(answers, ANSWERS, strict=False))
    assert ask(pool, STEPS[:20]) == ANSWERS[:20]
    pool.close()
    pool.close()


class Broken(FakeLean):
    """Raises what no backend should."""

    def run_tac(self, state: TacticState, tactic: str) -> StepResult:
        raise KeyError(tactic)


class Absent(FakeLean):
    """Is not installed."""

    @classmethod
    def unavailable(cls) -> str | None:
        return "Lean is missing; run `lightning-gfn lean install`"


def test_setup_finds_a_backend_that_does_not_work(make_pool: Callable[..., LeanPool]) -> None:
    make_pool().setup()
    make_pool(rules=type("Nothing", (), {"refusal": lambda self, tactic: "nothing is allowed"})()).setup()
    for backend, message in (
        (Absent(), "lightning-gfn lean install"),
        (Broken(), "lean doctor"),
        (FakeLean(crash_on=["exact hp"]), "the Lean process broke"),
    ):
        with pytest.raises(BackendUnavailable, match=message):
            make_pool(backend).setup()


def test_a_backend_that_cannot_be_copied_is_named(make_pool: Callable[..., LeanPool]) -> None:
    backend = FakeLean()
    backend.process = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(BackendUnavailable, match="'fake' cannot be copied"):
        make_pool(backend).setup()


def test_no_fault_of_a_backend_is_raised(make_pool: Callable[..., LeanPool]) -> None:
    answer = make_pool(Broken()).run_tac(OR, [], "left").result()
    assert isinstance(answer, LeanError) and answer.kind == "fault" and "KeyError" in answer.message


def test_copies_are_configurations(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(crash_on=["x"]), num_workers=2, retries=0, cache_size=7)
    pool.setup()
    for other in (copy.deepcopy(pool), pickle.loads(pickle.dumps(pool))):
        assert other._scheduler is None and other.num_workers == 2 and other.cache_size == 7
        assert other.backend.crash_on == ("x",) and other.counters()["seconds"] == 0
        assert ask(other, STEPS[:30]) == ANSWERS[:30]
        other.close()


def test_futures_can_be_cancelled(make_pool: Callable[..., LeanPool]) -> None:
    pool = make_pool(FakeLean(latency=0.05))
    first, second = pool.run_tac(OR, [], "left"), pool.run_tac(OR, [], "right")
    assert second.cancel()
    assert isinstance(first.result(), TacticState) and isinstance(pool.run_tac(OR, [], "right").result(), TacticState)


def lean_threads() -> int:
    return sum(thread.name.startswith("lean-") for thread in threading.enumerate())


def test_a_forgotten_pool_ends_its_workers() -> None:
    before = lean_threads()
    pool = LeanPool(FakeLean(), num_workers=3)
    pool.setup()
    assert lean_threads() == before + 4
    del pool
    gc.collect()
    deadline = time.monotonic() + 5
    while lean_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lean_threads() == before


def test_the_interpreter_ends_with_workers_at_work() -> None:
    code = """
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.lean_types import Theorem

theorem = Theorem("t", "(p : Prop) (h : p) : p")
pool = LeanPool(FakeLean(latency=0.01), num_workers=2)
futures = [pool.run_tac(theorem, [], f"exact x{i}") for i in range(500)]
futures[0].result()
print("end")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode, done.stderr) == ("end\n", 0, "")


def test_a_forked_process_starts_its_own_workers(make_pool: Callable[..., LeanPool]) -> None:
    import multiprocessing

    pool = make_pool(num_workers=2)
    pool.setup()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def child() -> None:
        answers.put(ask(pool, STEPS[:50]) == ANSWERS[:50])
        pool.close()

    process = context.Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0 and answers.get()
    assert ask(pool, STEPS[:50]) == ANSWERS[:50]


def test_describe(make_pool: Callable[..., LeanPool]) -> None:
    assert make_pool().describe() == {"backend": "fake", "lean_version": "propositional logic"}


@pytest.mark.parametrize(
    ("options", "name"),
    [({"num_workers": 0}, "num_workers"), ({"timeout": 0}, "timeout"), ({"retries": -1}, "retries"),
     ({"max_states_per_worker": 0}, "max_states_per_worker")],
)  # fmt: skip
def test_arguments_are_checked(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"environment.{name}"):
        LeanPool(FakeLean(), **options)


def test_yaml_makes_a_pool() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(LeanPool, "environment")
    text = """
environment:
  class_path: lightning_gfn.environments.pool.LeanPool
  init_args:
    backend:
      class_path: lightning_gfn.environments.fake.FakeLean
      init_args: {latency: 0.001, crash_on: [exact bomb]}
    rules:
      barred: [left]
    num_workers: 2
"""
    pool = parser.instantiate(parser.parse_string(text)).environment
    assert isinstance(pool.backend, FakeLean) and pool.backend.crash_on == ("exact bomb",) and pool.num_workers == 2
    answer = pool.run_tac(OR, [], "left").result()
    assert isinstance(answer, LeanError) and answer.kind == "forbidden"
    assert isinstance(pool.run_tac(OR, [], "right").result(), TacticState)
    pool.close()
