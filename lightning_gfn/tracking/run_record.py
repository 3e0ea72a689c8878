"""The run record states a run's configuration at its start: on disk, and as parameters and tags in the loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch import Callback

from lightning_gfn.tracking.checkpoint_check import MADE_OF, settings_of
from lightning_gfn.tracking.run_folder import RunFolder
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch import LightningModule, Trainer


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
        for logger in trainer.loggers:
            if stage == "fit":
                logger.log_hyperparams(yaml.safe_load(self.config))
            if (log_tags := getattr(logger, "log_tags", None)) is not None:
                log_tags(self.tags)
            if (log_file := getattr(logger, "log_artifact_file", None)) is not None:
                log_file(path, None)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say what the state was made of, so that another model or method is refused before it is built."""
        checkpoint[MADE_OF] = settings_of((yaml.safe_load(self.config) or {}).get("model"))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the figures on disk go on where the checkpoint stands."""
        for logger in trainer.loggers:
            if (resume_at := getattr(logger, "resume_at", None)) is not None:
                resume_at(trainer.global_step)

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
