"""The tactic policy over fake Lean, real propositional logic, in a pool of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import tactic_policy as TACTIC

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proof_sampler import EpisodeSampler
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.types import Problem, Rollouts


@pytest.fixture
def tactic() -> ModuleType:
    """Policy, theorems and enumeration."""
    return TACTIC


@pytest.fixture
def policy() -> Any:
    """A policy of one tactic a step."""
    return TACTIC.TacticPolicy()


@pytest.fixture
def theorems() -> list[Problem]:
    """Two theorems."""
    return [Problem(item.name, "", theorem=item) for item in (TACTIC.CONJUNCTION, TACTIC.DISJUNCTION)]


@pytest.fixture
def unstated() -> Problem:
    """A theorem that cannot be stated."""
    return Problem("unstated", "", theorem=TACTIC.UNSTATED)


@pytest.fixture
def make_proving() -> Iterator[Callable[..., Proving]]:
    """Proving over a pool of fake Leans; pools are closed afterwards."""
    pools: list[LeanPool] = []

    def make(*, workers: int = 1, backend: dict[str, Any] | None = None, cache: int = 1000, **settings: Any) -> Proving:
        pools.append(LeanPool(FakeLean(**(backend or {})), num_workers=workers, cache_size=cache))
        return Proving(pools[-1], **{"max_steps": 3, "max_wait": 0.01, **settings})

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def collect() -> Callable[..., Rollouts]:
    """Rollouts of an episode sampler with a behaviour mix."""

    def run(
        policy: Any, problems: list[Problem], proving: Proving, *, num_samples: int = 6, step: int = 4, **options: Any
    ) -> Rollouts:
        shares = options.pop("shares", {})
        buffer, attempt = options.pop("buffer", None), options.pop("attempt", 0)
        sampler = EpisodeSampler(
            proving, num_samples=num_samples, behaviour=BehaviourMix(**shares), seed=options.pop("seed", 1)
        )
        drawn = sampler.collect(policy, problems, rollout_step=step, buffer=buffer, device="cpu", attempt=attempt)
        run.sampler, run.metrics = sampler, drawn.metrics  # type: ignore[attr-defined]
        return drawn.rollouts

    return run
