"""The base class of callbacks that gather records of validation and test: the hooks, and the step of the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class EvaluatedStep(Callback, ABC):
    """Gathers the records of one validation or test at a time, sanity checks left out.

    Knows the step of the weights in ``test`` and ``validate`` too, where the trainer's own counter stays at 0.
    Subclasses give ``restart``, ``take`` and ``finish`` and read ``weights_step``.
    """

    _loaded_step: int | None = None

    @abstractmethod
    def restart(self) -> None:
        """Forget what was gathered."""

    @abstractmethod
    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Gather what one batch returned; ``step_name`` is the method that returned it."""

    @abstractmethod
    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Work off what was gathered; ``stage`` is ``val`` or ``test``."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.restart()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.restart()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking:
            self.take(trainer, pl_module, outputs, "validation_step")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.take(trainer, pl_module, outputs, "test_step")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer, pl_module, "test")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the step of the checkpoint."""
        self._loaded_step = int(checkpoint["global_step"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on the trainer's counter holds, until another checkpoint is loaded."""
        self._loaded_step = None

    def weights_step(self, trainer: Trainer) -> int:
        """Optimiser steps that the present weights have seen."""
        fitting = trainer.state.fn == "fit"
        return trainer.global_step if fitting or self._loaded_step is None else self._loaded_step
