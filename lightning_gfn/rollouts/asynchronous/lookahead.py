"""Which rollout batches come next, and at which optimiser step each will be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lightning_gfn.types import Problem


@runtime_checkable
class ForeseenBatches(Protocol):
    """A training loader that can say what it will hand out."""

    epoch: int
    batch: int

    def __len__(self) -> int:
        """Training batches of an epoch."""

    def batch_at(self, epoch: int, batch: int) -> list[Problem]:
        """This rank's share of a training batch."""


@dataclass(frozen=True)
class Place:
    """Where a rollout batch will be used.

    Args:
        rollout_step: rollout batch counter.
        optimizer_step: optimiser steps made before it.
        epoch: of the loader,
        batch: and its first training batch there.
    """

    rollout_step: int
    optimizer_step: int
    epoch: int
    batch: int


@dataclass(frozen=True)
class Course:
    """How training goes on: the trainer's limits and its place.

    Args:
        epoch: the loader's epoch,
        batch: and the next training batch in it that is not done.
        optimizer_step: optimiser steps made.
        rollout_step: counter of the next rollout batch.
        epoch_batches: training batches of an epoch.
        epochs_left: epochs that may be begun, the present one included; None for no limit.
        max_steps: optimiser steps that end training; None for no limit.
        accumulate: training batches of an optimiser step; the end of an epoch ends one.
        repeats: training batches that use one rollout batch.
    """

    epoch: int
    batch: int
    optimizer_step: int
    rollout_step: int
    epoch_batches: int
    epochs_left: int | None
    max_steps: int | None
    accumulate: int
    repeats: int

    def places(self) -> Iterator[Place]:
        """The rollout batches from the next one on, until training ends."""
        epoch, left, number = self.epoch, self.epochs_left, self.rollout_step
        before = self.optimizer_step - self.batch // self.accumulate
        batch = -(-self.batch // self.repeats) * self.repeats
        if self.batch >= self.epoch_batches:  # the steps of an epoch that is over are all made
            epoch, batch, before, left = epoch + 1, 0, self.optimizer_step, None if left is None else left - 1
        while left is None or left > 0:
            while batch < self.epoch_batches:
                step = before + batch // self.accumulate
                if self.max_steps is not None and step >= self.max_steps:
                    return
                yield Place(number, step, epoch, batch)
                number, batch = number + 1, batch + self.repeats
            before += -(-self.epoch_batches // self.accumulate)
            epoch, batch, left = epoch + 1, 0, None if left is None else left - 1
