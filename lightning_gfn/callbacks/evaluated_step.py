"""Which optimiser step the evaluated weights come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class EvaluatedStep(Callback):
    """Knows the step of the weights in ``test`` and ``validate`` too, where the trainer's own counter stays at 0.

    Subclasses read ``weights_step``.
    """

    _loaded_step: int | None = None

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
