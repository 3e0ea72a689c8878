"""Values that change over optimiser steps: the weights and temperatures of reward terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

LAST_STEP = 2**62
"""An optimiser step at which every schedule has come to its end."""


class Schedule(ABC):
    """A number for each optimiser step."""

    @abstractmethod
    def __call__(self, optimizer_step: int) -> float:
        """The value at an optimiser step (counted from 0)."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Args:
        value: that value.
    """

    value: float

    def __call__(self, optimizer_step: int) -> float:
        """``value``."""
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from ``start`` to ``end``, then ``end`` for good.

        value(t) = start + (end - start) · min(t / steps, 1)

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: optimiser steps that the way takes; at least 1.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_steps(self)

    def __call__(self, optimizer_step: int) -> float:
        """The value at an optimiser step."""
        return self.start + (self.end - self.start) * _share_done(optimizer_step, self.steps)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from ``start`` to ``end`` (flat at both ends), then ``end`` for good.

        value(t) = end + (start - end) · (1 + cos(π · min(t / steps, 1))) / 2

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: optimiser steps that the way takes; at least 1.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_steps(self)

    def __call__(self, optimizer_step: int) -> float:
        """The value at an optimiser step."""
        angle = math.pi * _share_done(optimizer_step, self.steps)
        return self.end + (self.start - self.end) * (1.0 + math.cos(angle)) / 2.0


def as_schedule(value: Schedule | float) -> Schedule:
    """A plain number as a constant schedule; schedules pass through."""
    return value if isinstance(value, Schedule) else Constant(float(value))


def _check_steps(schedule: Linear | Cosine) -> None:
    if schedule.start == schedule.end:
        raise ValueError(
            f"{type(schedule).__name__}: start and end are both {schedule.start}, so that it never moves; change one, "
            "or use Constant"
        )
    if schedule.steps < 1:
        raise ValueError(
            f"{type(schedule).__name__}: steps={schedule.steps} must be at least 1; for a fixed value use Constant"
        )


def _share_done(optimizer_step: int, steps: int) -> float:
    return min(max(optimizer_step, 0) / steps, 1.0)
