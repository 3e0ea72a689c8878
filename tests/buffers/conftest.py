"""Random trajectories of short action sequences, so that duplicates and near-duplicates are common."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from lightning_gfn.types import Step, Trajectory


def random_trajectory(generator: random.Random, num_problems: int = 3, born: int = 0) -> Trajectory:
    """At most 6 tokens out of 3, a coarse log reward (ties are common), prefix terms and a scalar term."""
    problem = f"p{generator.randrange(num_problems)}"
    action = tuple(generator.randrange(3) for _ in range(generator.randrange(7)))
    terms = {"prefix": tuple(generator.gauss(0, 1) for _ in range(len(action) + 1)), "scalar": (generator.gauss(0, 1),)}
    return Trajectory(
        problem, (Step((1, 2, 3), action),), f"text {action}", terms, float(generator.randrange(-5, 1)), born
    )


@pytest.fixture
def make_trajectories() -> Callable[..., list[Trajectory]]:
    """``make(seed, count)``: random trajectories, the i-th born at step i."""

    def make(seed: int, count: int, num_problems: int = 3) -> list[Trajectory]:
        generator = random.Random(seed)
        return [random_trajectory(generator, num_problems, born=i) for i in range(count)]

    return make
