from __future__ import annotations

import math

import pytest

from lightning_gfn.rewards.schedules import Constant, Cosine, Linear, as_schedule


@pytest.mark.parametrize("schedule", [Linear(1.1, 0.5, 150), Cosine(1.1, 0.5, 150), Linear(0.0, 3.0, 1)])
def test_starts_and_ends_where_told_and_stays_there(schedule: Linear | Cosine) -> None:
    assert schedule(0) == pytest.approx(schedule.start)
    assert schedule(schedule.steps) == pytest.approx(schedule.end)
    assert schedule(10 * schedule.steps) == pytest.approx(schedule.end)


def test_values_on_the_way() -> None:
    assert Linear(1.0, 0.8, 750)(375) == pytest.approx(0.9)
    assert Cosine(2.0, 1.0, 100)(50) == pytest.approx(1.5)
    assert Cosine(2.0, 1.0, 100)(25) == pytest.approx(1.0 + (1.0 + math.cos(math.pi / 4)) / 2.0)
    assert all(Cosine(2.0, 1.0, 100)(t) > Cosine(2.0, 1.0, 100)(t + 1) for t in range(100))
    assert Cosine(2.0, 1.0, 100)(10) > Linear(2.0, 1.0, 100)(10), "the cosine leaves its start slowly"


def test_a_plain_number_is_constant() -> None:
    assert as_schedule(2) == Constant(2.0)
    assert as_schedule(2)(0) == as_schedule(2)(10_000) == 2.0
    linear = Linear(1.0, 2.0, 3)
    assert as_schedule(linear) is linear


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_a_schedule_that_never_moves_is_refused(kind: type[Linear] | type[Cosine]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}: start and end are both 0.5.*Constant"):
        kind(0.5, 0.5, 100)


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_no_steps_is_refused(kind: type[Linear] | type[Cosine]) -> None:
    with pytest.raises(ValueError, match=r"steps=0 .*Constant"):
        kind(1.0, 2.0, 0)
