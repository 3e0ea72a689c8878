"""The run record states a run's configuration at its start: on disk, and as parameters and tags in the loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.pytorch import Callback

from lightning_gfn.tracking.checkpoint_check import MADE_OF, settings_of
from lightning_gfn.tracking.disk_logger import Row, new_row
from lightning_gfn.tracking.run_folder import RunFolder
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer

ROWS = "rows"


class RunRecord(Callback):
    """Writes the configuration into the run folder and tells the loggers parameters, tags and where training goes on.

    ``config.yaml`` is the configuration of the fit. A resumed fit with another one keeps the former as
    ``config.<n>.yaml``; other commands write ``config.<command>.yaml`` if they differ.

    Args:
        folder: the run folder.
        config: the whole configuration as YAML text.
        tags: tags of the run, seed and method among them.
    """

    def __init__(self, folder: RunFolder, config: str, tags: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self.tags = tags
        self.recorded = False
        self.loaded: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let rows of training wait for the checkpoint that covers them."""
        self.tell(trainer, "hold_rows", stage == "fit")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write when the weights of a checkpoint have turned out to fit, so that one that does not changes nothing."""
        self.record(trainer, "fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.record(trainer, "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.record(trainer, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.record(trainer, "predict")

    def record(self, trainer: Trainer, stage: str) -> None:
        """Write once, on rank 0."""
        if self.recorded or not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        self.recorded = True
        path = self.save_config(stage)
        if stage == "fit":
            self.folder.update(tags=self.tags)
        for logger in trainer.loggers:
            if stage == "fit":
                logger.log_hyperparams(yaml.safe_load(self.config))
            if (log_tags := getattr(logger, "log_tags", None)) is not None:
                log_tags(self.tags)
            if (log_file := getattr(logger, "log_artifact_file", None)) is not None:
                log_file(path, None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the rows go on where the checkpoint stands."""
        state = self.loaded if self.loaded is not None else {"step": trainer.global_step, "due": None}
        self.loaded = None
        self.tell(trainer, "resume_at", state["step"], state["due"])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where a resumed fit had nothing left to do: a test that follows logs at the step and epoch it ended with."""
        if self.loaded is not None:
            trainer.fit_loop.epoch_loop._batches_that_stepped = self.loaded["step"]
            trainer.fit_loop.epoch_progress.current.completed = self.loaded["epoch"]
            self.on_train_start(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the state was made of, the step of the next row, and the row of this step if it is still due."""
        checkpoint[MADE_OF] = settings_of((yaml.safe_load(self.config) or {}).get("model"))
        loop = trainer.fit_loop.epoch_loop
        in_batch = loop.batch_progress.current.ready != loop.batch_progress.current.completed
        in_epoch = in_batch or trainer.validating
        steps = in_epoch and not loop._should_accumulate()
        checkpoint[ROWS] = {
            "step": loop._batches_that_stepped + int(steps),
            "epoch": trainer.current_epoch + int(in_epoch),
            "due": due_row(trainer) if in_batch and steps else None,
        }
        self.tell(trainer, "settle")
        self.tell(trainer, "will_cover", checkpoint[ROWS]["step"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint.get(ROWS) if trainer.state.fn == "fit" else None

    def tell(self, trainer: Trainer, method: str, *arguments: Any) -> None:
        """Call a method of every logger that has it."""
        for logger in trainer.loggers:
            if (function := getattr(logger, method, None)) is not None:
                function(*arguments)

    def save_config(self, stage: str) -> Path:
        """Write the configuration; returns its file."""
        path = self.folder.config_file
        former = path.read_text(encoding="utf-8") if path.exists() else None
        if former == self.config:
            return path
        if stage != "fit" and former is not None:
            path = path.with_name(f"config.{stage}.yaml")
        elif former is not None:
            number = 1
            while (kept := path.with_name(f"config.{number}.yaml")).exists():
                number += 1
            path.rename(kept)
        replace_text(path, self.config)
        return path


def due_row(trainer: Trainer) -> Row | None:
    """The row that Lightning logs right after the hooks of this batch; None if this batch is not logged."""
    connector = trainer._logger_connector
    metrics = convert_tensors_to_scalars(connector.metrics["log"]) if connector.should_update_logs else {}
    if not metrics:
        return None
    step = metrics.pop("step", None)
    if step is not None:
        return new_row(metrics, int(step))
    metrics.setdefault("epoch", trainer.current_epoch)
    return new_row(metrics, trainer.fit_loop.epoch_loop._batches_that_stepped)
