"""Checkpoints of a run: the last complete state always, the best one if a metric is watched."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.callbacks import Checkpoint

from lightning_gfn.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class RunCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` and, with ``monitor``, ``checkpoints/best.ckpt`` in the run folder.

    The last state is saved every so many optimiser steps, after every validation and when training ends; a file takes
    its name only when it is complete, so a kill at any moment leaves a checkpoint to go on from.

    Args:
        every_n_train_steps: optimiser steps between two saves.
        monitor: metric whose best value decides about ``best.ckpt``, say ``val/solve_rate``; None keeps no best.
        mode: whether the best value is the largest or the smallest.
    """

    def __init__(
        self, *, every_n_train_steps: int = 100, monitor: str | None = None, mode: Literal["max", "min"] = "max"
    ) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"checkpoint.every_n_train_steps must be at least 1, got {every_n_train_steps}")
        self.every_n_train_steps = every_n_train_steps
        self.monitor = monitor
        self.mode = mode
        self.best_score: float | None = None
        self.saved_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["monitor"] == self.monitor:
            self.best_score = state_dict["best_score"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        ends = trainer.should_stop or step == trainer.max_steps
        due = step != self.saved_step and (step % self.every_n_train_steps == 0 or ends)
        if due and not validation_follows(trainer):
            self._save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        is_best = self._is_best(trainer)
        self._save_last(trainer)
        if is_best:
            self._save(trainer, RunFolder(Path(trainer.default_root_dir)).best_checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self.saved_step:
            self._save_last(trainer)

    def _is_best(self, trainer: Trainer) -> bool:
        if self.monitor is None:
            return False
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise ValueError(f"checkpoint.monitor {self.monitor!r} is not among the logged metrics: {known}")
        score = float(trainer.callback_metrics[self.monitor])
        if not math.isfinite(score):
            return False
        sign = 1.0 if self.mode == "max" else -1.0
        if self.best_score is not None and sign * score <= sign * self.best_score:
            return False
        self.best_score = score
        return True

    def _save_last(self, trainer: Trainer) -> None:
        self._save(trainer, RunFolder(Path(trainer.default_root_dir)).last_checkpoint)
        self.saved_step = trainer.global_step

    def _save(self, trainer: Trainer, path: Path) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        partial = path.with_name(f"{path.name}.partial")
        if trainer.is_global_zero:
            remove(partial)
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            replace(partial, path)
        trainer.strategy.barrier("lightning_gfn.checkpoint")


def validation_follows(trainer: Trainer) -> bool:
    """True if validation comes right after this batch: a state saved before it would skip it when a run goes on."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and bool(trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher))


def remove(path: Path) -> None:
    """Delete a file or (checkpoints of sharded strategies) a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def replace(partial: Path, path: Path) -> None:
    """Give a complete checkpoint its name; a folder cannot replace a folder in one move, so the old one steps aside."""
    if not partial.is_dir():
        partial.replace(path)
        return
    former = path.with_name(f"{path.name}.former")
    remove(former)
    if path.exists():
        path.rename(former)
    partial.rename(path)
    remove(former)
