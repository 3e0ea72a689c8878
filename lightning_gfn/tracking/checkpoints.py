"""Checkpoints of a run: the last complete state always, the best one if a metric is watched."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.callbacks import Checkpoint

from lightning_gfn.finite import state_not_finite
from lightning_gfn.tracking.run_folder import RunFolder, RunFolderError
from lightning_gfn.whole_files import put_in_place, sync_folder, sync_tree

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class RunCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` and, with ``monitor``, ``checkpoints/best.ckpt`` in the run folder.

    The last state is saved every so many optimiser steps, after every validation and when training ends; a file takes
    its name only when it is complete and on the disk, so a kill at any moment leaves a checkpoint to go on from. The
    one before stays as ``checkpoints/previous.ckpt``. Weights or optimiser states that are not finite are never saved,
    nor is anything while steps are being left out because their loss is not finite: the earlier files stay.

    Args:
        every_n_train_steps: optimiser steps between two saves.
        monitor: metric whose best value decides about ``best.ckpt``, say ``val/solve_rate``; None keeps no best.
        mode: whether the best value is the largest or the smallest.
        keep_previous: keep the checkpoint before the last one, too, which costs its size on disk; it is what is offered
            if the last one breaks.
    """

    def __init__(
        self,
        *,
        every_n_train_steps: int = 100,
        monitor: str | None = None,
        mode: Literal["max", "min"] = "max",
        keep_previous: bool = True,
    ) -> None:
        if every_n_train_steps < 1:
            raise ValueError(f"checkpoint.every_n_train_steps must be at least 1, got {every_n_train_steps}")
        self.every_n_train_steps = every_n_train_steps
        self.monitor = monitor
        self.mode = mode
        self.keep_previous = keep_previous
        self.overdue = False
        self.refused: str | None = None
        self.best_score: float | None = None
        self.saved_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["monitor"] == self.monitor:
            self.best_score = state_dict["best_score"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = trainer.global_step
        self.overdue, self.refused = False, None
        if trainer.is_global_zero:
            folder = RunFolder(Path(trainer.default_root_dir)).last_checkpoint.parent
            for partial in folder.glob("*.partial"):  # of a run that was killed while it wrote
                remove(partial)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        ends = trainer.should_stop or trainer.received_sigterm or step == trainer.max_steps
        due = step != self.saved_step and (step % self.every_n_train_steps == 0 or ends or self.overdue)
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

    def save_last(self, trainer: Trainer) -> None:
        """Save the last state now."""
        self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        saved = self._save(trainer, RunFolder(Path(trainer.default_root_dir)).last_checkpoint)
        self.overdue = not saved
        if saved:
            self.saved_step = trainer.global_step

    def _save(self, trainer: Trainer, path: Path) -> bool:
        """Write a checkpoint and give it its name; False if its state must not be saved."""
        if getattr(trainer, "fast_dev_run", False):
            return True
        reason = first_reason(not_worth_saving(trainer))
        if reason is not None:
            self._refuse(trainer, path, reason)
            return False
        self.refused = None
        partial = path.with_name(f"{path.name}.partial")
        if trainer.is_global_zero:
            remove(partial)
        failure = self._write(trainer, partial)
        if failure is None and trainer.is_global_zero:
            former = path.with_name("previous.ckpt") if self.keep_previous and path.name == "last.ckpt" else None
            if former is not None:
                keep(path, former)
            replace(partial, path, former)
        failure = trainer.strategy.broadcast(failure)
        if failure is not None:
            kept = f"{path} of before is whole" if path.exists() else "there is no earlier one"
            raise RunFolderError(
                f"checkpoint {path} could not be written at step {trainer.global_step} ({failure}); {kept}: make room "
                "or give another --run_dir, then go on with --ckpt_path last"
            )
        return True

    def _write(self, trainer: Trainer, partial: Path) -> str | None:
        """Save on all ranks; what the file system says against it, on the rank that writes."""
        try:
            trainer.save_checkpoint(partial, weights_only=False)
        except OSError as error:
            if partial.is_file() or trainer.is_global_zero:
                remove(partial)
            trainer.strategy.barrier("Trainer.save_checkpoint")  # the one that the others wait at
            return error.strerror or str(error)
        return None

    def _refuse(self, trainer: Trainer, path: Path, reason: str) -> None:
        """Say once in a row why a state is not saved."""
        if self.refused is None and trainer.is_global_zero:
            stays = f"{path.name} stays as it was" if path.exists() else f"there is no {path.name} yet"
            print(f"[lightning-gfn] checkpoint not saved at step {trainer.global_step}: {reason}; {stays}", flush=True)
        self.refused = reason


def not_worth_saving(trainer: Trainer) -> str | None:
    """Why the present state must not replace a good one; None if it may."""
    module: Any = trainer.lightning_module
    if broken := state_not_finite(module, trainer.optimizers):
        return f"{len(broken)} tensors are not finite (NaN or infinite), {broken[0]!r} among them"
    in_a_row = getattr(getattr(module, "skipped", None), "in_a_row", 0)
    return f"the last {in_a_row} steps were left out, their loss is not finite" if in_a_row else None


def first_reason(reason: str | None) -> str | None:
    """The reason of the first process that has one: where weights are cut into shards, each looks at its own."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return reason
    reasons: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(reasons, reason)
    return next((one for one in reasons if one is not None), None)


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


def keep(path: Path, former: Path) -> None:
    """Give a file a second name, so that it outlives its replacement; at no moment is ``path`` missing.

    File systems without hard links keep nothing. A folder is kept when it steps aside for the next one.
    """
    if not path.is_file():
        return
    link = former.with_name(f"{former.name}.partial")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        return
    if former.is_dir():
        shutil.rmtree(former)
    os.replace(link, former)


def replace(partial: Path, path: Path, former: Path | None = None) -> None:
    """Give a complete checkpoint its name; a folder cannot replace a folder in one move, so the old one steps aside.

    Args:
        partial: the new one.
        path: its name.
        former: where the old one stays if it is a folder; None deletes it.
    """
    if not (partial.is_dir() or path.is_dir()):
        put_in_place(partial, path)
        return
    if partial.is_dir():
        sync_tree(partial)
    aside = former if former is not None else path.with_name(f"{path.name}.former")
    if path.exists():
        remove(aside)
        path.rename(aside)
    partial.rename(path)
    if former is None:
        remove(aside)
    sync_folder(path.parent)
