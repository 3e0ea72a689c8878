"""Workers in Ray actors: the real Ray if asked for, a stand-in in this process otherwise."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lightning_gfn.environments import ray_actor
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.environments.ray_actor import RayLean
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout, BackendUnavailable
from lightning_gfn.lean_types import LeanError, ProofFinished, TacticState, Theorem

OR = Theorem("or", "(p q : Prop) (h : p) : p ∨ q")


class RayError(Exception):
    """As in Ray."""


class GetTimeoutError(RayError):
    """As in Ray."""


class StandIn:
    """Actors that are objects of this process."""

    exceptions = types.SimpleNamespace(RayError=RayError, GetTimeoutError=GetTimeoutError)

    def __init__(self) -> None:
        self.actors: list[Any] = []
        self.initialized = False

    def is_initialized(self) -> bool:
        return self.initialized

    def init(self, **options: Any) -> None:
        self.initialized = True

    def remote(self, **options: Any) -> Callable[[type], Any]:
        def make(host: type) -> Any:
            def start(backend: Any) -> Any:
                actor = types.SimpleNamespace(host=host(copy.deepcopy(backend)), alive=True)
                actor.call = types.SimpleNamespace(remote=lambda *call: (actor, call))
                self.actors.append(actor)
                return actor

            return types.SimpleNamespace(remote=start)

        return make

    def get(self, reference: Any, timeout: float) -> Any:
        actor, (method, arguments) = reference
        if not actor.alive:
            raise RayError("The actor died")
        if "exact lost" in arguments:
            raise GetTimeoutError
        return actor.host.call(method, arguments)

    def kill(self, actor: Any) -> None:
        actor.alive = False


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(ray_actor, "_ray", lambda: made)
    return made


@pytest.fixture
def backend(ray: StandIn) -> Iterator[RayLean]:
    fake = FakeLean(crash_on=["exact bomb"], timeout_on=["exact slow"])
    made = RayLean(fake, timeout=5.0)
    yield made
    made.close()


def begin(backend: RayLean) -> TacticState:
    state = backend.start(OR)
    assert isinstance(state, TacticState)
    return state


def test_results_are_those_of_the_backend(backend: RayLean, ray: StandIn) -> None:
    first = begin(backend)
    second = backend.run_tac(first, "left")
    assert isinstance(second, TacticState) and backend.run_tac(second, "exact h") == ProofFinished()
    assert isinstance(backend.run_tac(first, "exact h"), LeanError)
    assert backend.check(OR, ["left", "exact h"]).verified and backend.version == "propositional logic"
    backend.release([second])
    assert len(ray.actors) == 1 and ray.actors[0].host.backend.num_states == 1


@pytest.mark.parametrize(
    ("tactic", "fault", "text"),
    [
        ("exact bomb", BackendFault, "died of"),
        ("exact slow", BackendTimeout, "no answer"),
        ("exact lost", BackendTimeout, "free CPU"),
    ],
)
def test_faults(backend: RayLean, ray: StandIn, tactic: str, fault: type[Exception], text: str) -> None:
    first = begin(backend)
    with pytest.raises(fault, match=text):
        backend.run_tac(first, tactic)
    assert not ray.actors[0].alive
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(first, "left")
    begin(backend)
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(first, "left")  # the new actor knows another state by the same number
    assert len(ray.actors) == 2


def test_an_actor_that_died_is_a_fault(backend: RayLean, ray: StandIn) -> None:
    first = begin(backend)
    ray.actors[0].alive = False
    with pytest.raises(BackendFault, match="actor died"):
        backend.run_tac(first, "left")


def test_no_cluster_is_said_at_once(monkeypatch: pytest.MonkeyPatch, ray: StandIn) -> None:
    def refuse(**options: Any) -> None:
        raise ConnectionError("nobody listens")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(BackendUnavailable, match="environment.ray: false"):
        LeanPool(FakeLean(), ray=True).setup()


def prove_something(pool: LeanPool) -> None:
    pool.setup()
    assert pool.run_tac(OR, ["left"], "exact h").result() == ProofFinished()
    deadly = pool.run_tac(OR, [], "exact bomb").result()
    assert isinstance(deadly, LeanError) and deadly.kind == "fault" and "died of" in deadly.message
    assert isinstance(pool.run_tac(OR, [], "left").result(), TacticState)
    assert pool.counters()["restarts"] == 2 and pool.describe()["backend"] == "fake"
    pool.close()


def test_the_pool(ray: StandIn) -> None:
    prove_something(LeanPool(FakeLean(crash_on=["exact bomb"]), num_workers=2, ray=True))
    assert not any(actor.alive for actor in ray.actors)


@pytest.mark.slow
def test_the_pool_with_real_ray() -> None:
    real = pytest.importorskip("ray")
    try:
        prove_something(LeanPool(FakeLean(crash_on=["exact bomb"]), num_workers=2, ray=True))
    finally:
        real.shutdown()
