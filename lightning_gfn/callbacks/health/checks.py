"""What can be known to be in vain before the first step: learning rates, validation, monitors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def vain_settings(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Names and sentences of what would be in vain in the training that is about to start."""
    yield from vain_learning_rate(trainer)
    yield from vain_validation(trainer)


def vain_learning_rate(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """A learning rate of 0."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    idle = [group for group in groups if group.get("initial_lr", group["lr"]) == 0]
    if idle:
        which = "all parameters" if len(idle) == len(groups) else f"{len(idle)} of {len(groups)} groups of parameters"
        yield (
            "no_learning_rate",
            f"the learning rate of {which} is 0, they will not change: set model.optimizer.lr (and head_lr, where "
            "there is a head) above 0",
        )


def validation_is_empty(trainer: Trainer) -> bool:
    """True if the validation data are there and hold nothing; Lightning loads them late if validation comes late."""
    return trainer.val_dataloaders is not None and sum(trainer.num_val_batches) == 0


def first_validation(trainer: Trainer) -> float:
    """Training batches after which the first validation comes, counted from 1."""
    every, within = trainer.check_val_every_n_epoch, float(trainer.val_check_batch or math.inf)
    return within if every is None else (every - 1) * trainer.num_training_batches + within


def last_batch(trainer: Trainer) -> float:
    """Training batches after which the run ends, as far as the trainer's limits say."""
    by_steps = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else math.inf
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else math.inf
    return min(by_steps, epochs * trainer.num_training_batches)


def monitors(trainer: Trainer) -> list[str]:
    """What callbacks watch of validation, as ``EarlyStopping watches val/loss``."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    watched = [(type(callback).__name__, getattr(callback, "monitor", None)) for callback in callbacks]
    return [f"{name} watches {key}" for name, key in watched if isinstance(key, str) and key.startswith("val/")]


def vain_validation(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Validation without data, after the end of training, or switched off although a callback watches it."""
    watching = f" ({', '.join(found)})" if (found := monitors(trainer)) else ""
    if trainer.enable_validation and validation_is_empty(trainer):
        yield (
            "no_validation_data",
            f"there are no validation data, no validation will run{watching}: give data a validation split "
            "(data.val_fraction above 0, or its own file), or set trainer.limit_val_batches to 0",
        )
    elif watching and not trainer.enable_validation:
        yield (
            "no_validation",
            f"no validation will run, but a callback needs it{watching}: give validation data, set "
            "trainer.limit_val_batches above 0, or take the monitor out",
        )
    elif trainer.enable_validation and trainer.global_step == 0 and last_batch(trainer) < first_validation(trainer):
        yield (
            "late_validation",
            f"training ends after {last_batch(trainer):g} batches, before the first validation, due after "
            f"{first_validation(trainer):g}{watching}: lower trainer.val_check_interval or "
            "trainer.check_val_every_n_epoch, or set trainer.limit_val_batches to 0",
        )
