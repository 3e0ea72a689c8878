"""Long texts are refused before any backend's Lean sees them; the program behind each backend is a stand-in."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.interact import LeanInteractBackend
from lightning_gfn.environments.leandojo import LeanDojoBackend
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.environments.ray_actor import RayLean
from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, TacticState, Theorem

CONFIGURED: list[type[LeanBackend]] = [EmbeddedLean, LeanInteractBackend, LeanDojoBackend, FakeLean]
SHORT = Theorem("t", "x" * 100, ("c" * 100, "d" * 100))
LONG = {
    "the statement has 101 characters, more than max_chars=100": Theorem("t", "x" * 101),
    "the context has 201 characters, more than max_context_chars=200": Theorem("t", ": p", ("c" * 100, "d" * 101)),
}


def recording(base: type[LeanBackend], **settings: Any) -> LeanBackend:
    """A backend whose Lean writes down what it is asked and answers at once."""

    class Recording(base):  # type: ignore[misc,valid-type]
        seen: list[Any] = []

        def _start(self, theorem: Theorem) -> TacticState:
            self.seen.append(theorem)
            return TacticState(("goal",), (0, 1))

        def _run_tac(self, state: TacticState, tactic: str) -> ProofFinished:
            self.seen.append(tactic)
            return ProofFinished()

        def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
            self.seen.append((theorem, tuple(script)))
            return CheckResult(True)

        @property
        def version(self) -> str:
            return "recorded"

    return Recording(**settings)


def limited(backend: type[LeanBackend]) -> LeanBackend:
    return recording(backend, max_chars=100, max_context_chars=200)


def through_ray(backend: type[LeanBackend]) -> LeanBackend:
    """An actor's place, in which nothing is sent."""

    return recording(RayLean, backend=limited(backend), timeout=5.0)


ROUTES: list[Callable[[], LeanBackend]] = [
    *(lambda one=one: limited(one) for one in CONFIGURED),  # type: ignore[misc]
    *(lambda one=one: through_ray(one) for one in CONFIGURED),  # type: ignore[misc]
    *(lambda one=one: copy.deepcopy(limited(one)) for one in CONFIGURED),  # type: ignore[misc]
]


@pytest.mark.parametrize("make", ROUTES)
def test_long_texts_never_reach_a_backend(make: Callable[[], LeanBackend]) -> None:
    backend = make()
    state = TacticState(("goal",), (0, 1))
    for message, theorem in LONG.items():
        assert backend.start(theorem) == LeanError(message, "statement")
        assert backend.check(theorem, ["h"]) == CheckResult(False, message)
    message = "the tactic has 101 characters, more than max_chars=100"
    assert backend.run_tac(state, "y" * 101) == LeanError(message, "forbidden")
    message = "the proof has 101 characters, more than max_chars=100"
    assert backend.check(SHORT, ["y" * 50, "z" * 51]) == CheckResult(False, message)
    assert backend.seen == []  # type: ignore[attr-defined]
    assert backend.start(SHORT) == TacticState(("goal",)) and backend.run_tac(state, "y" * 100) == ProofFinished()
    assert backend.check(SHORT, ["y" * 50, "z" * 50]).verified
    assert backend.seen == [SHORT, "y" * 100, (SHORT, ("y" * 50, "z" * 50))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("backend", CONFIGURED)
def test_the_pool_answers_long_texts_and_counts_them(backend: type[LeanBackend]) -> None:
    pool = LeanPool(limited(backend), num_workers=1)
    for message, theorem in LONG.items():
        assert pool.start(theorem).result() == LeanError(message, "statement")
        assert pool.check(theorem, []).result() == CheckResult(False, message)
    answer = pool.run_tac(SHORT, [], "y" * 101).result()
    assert isinstance(answer, LeanError) and answer.kind == "forbidden" and "max_chars=100" in answer.message
    assert pool.run_tac(SHORT, [], "y" * 100).result() == ProofFinished()
    assert pool.counters()["forbidden"] == 1 and pool.counters()["restarts"] == 0
    pool.close()


@pytest.mark.parametrize("backend", CONFIGURED)
def test_limits_have_defaults_and_must_be_positive(backend: type[LeanBackend]) -> None:
    made = backend()
    assert (made.max_chars, made.max_context_chars) == (20_000, 200_000)
    again = pickle.loads(pickle.dumps(backend(max_chars=7, max_context_chars=8)))  # type: ignore[call-arg]
    assert (again.max_chars, again.max_context_chars) == (7, 8)
    for argument in ("max_chars", "max_context_chars"):
        with pytest.raises(ValueError, match=rf"{backend.__name__}: {argument}=0 must be positive"):
            backend(**{argument: 0})


def test_a_backend_of_ones_own_has_the_limits_unasked() -> None:
    class Own(LeanBackend):
        name, version = "own", "1"

        def _start(self, theorem: Theorem) -> TacticState:
            return TacticState(())

        def _run_tac(self, state: TacticState, tactic: str) -> ProofFinished:
            return ProofFinished()

        def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
            return CheckResult(True)

        def close(self) -> None:
            return

    own = Own()
    assert own.check(SHORT, ["x" * 20_000]).verified and not own.check(SHORT, ["x" * 20_001]).verified
    assert isinstance(own.start(Theorem("t", ": p", ("c" * 200_001,))), LeanError)
