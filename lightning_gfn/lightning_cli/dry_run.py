"""``fit --dry_run``: what a run would do, said and tried out on few examples, without a run folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch import Trainer

from lightning_gfn.callbacks.dry_run.rehearsal import Rehearsal
from lightning_gfn.lightning_cli.refusals import UsageError, explained
from lightning_gfn.lightning_cli.run_cli import RunCLI, say
from lightning_gfn.lightning_cli.short_config import short_yaml
from lightning_gfn.tracking.run_folder import RunFolder, RunFolderError

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAG = "--dry_run"
ONE_TRY: dict[str, Any] = {
    "logger": False, "enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False,
    "max_epochs": 2, "max_steps": -1, "max_time": None, "limit_val_batches": 0, "val_check_interval": None,
    "check_val_every_n_epoch": 1, "fast_dev_run": False, "overfit_batches": 0.0,
    "devices": 1, "num_nodes": 1, "strategy": "auto",
}  # fmt: skip
"""Settings of the trainer of a dry run: two short epochs on one device that leave nothing behind."""
SHOWN = ("run_dir", "seed_everything", "trainer", "model", "data")


def asks_dry_run(args: Sequence[str]) -> bool:
    """True if the command line holds the flag."""
    return FLAG in args


class DryRunCLI(RunCLI):
    """Builds everything that the command would build, and takes two training steps on few examples."""

    is_dry_run = True
    in_use: str | None = None

    def before_instantiate_classes(self) -> None:
        """Look at the run folder, and leave it alone."""
        config = self.config[self.subcommand]
        self.check_strategy()
        self.folder, self.checkpoint = RunFolder(Path(config.run_dir)), None
        try:
            self.folder.plan_fit(config.if_exists, config.ckpt_path)
        except RunFolderError as error:
            self.in_use = str(error)
        self.num_devices = num_processes(config.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer of two short epochs without the run's loggers and callbacks, which are built all the same."""
        self.scratch = tempfile.TemporaryDirectory(prefix="lightning-gfn-dry-run-")
        given = {**self._get(self.config_init, "trainer", default={}), **kwargs, **ONE_TRY}
        updates = int(getattr(self.model, "updates_per_rollout", 1))
        return self.trainer_class(**{
            **given,
            "default_root_dir": self.scratch.name,
            "limit_train_batches": updates,
            "callbacks": [Rehearsal(print, self.num_devices)],
        })  # fmt: skip

    def after_instantiate_classes(self) -> None:
        """Say what the configuration is."""
        say(f"dry run of {self.subcommand}: two steps on few examples; nothing is written")
        print("configuration (what differs from the defaults)")
        print("\n".join(f"  {line}" for line in self.short_config().splitlines()))

    def short_config(self) -> str:
        """The configuration without defaults, as YAML."""
        config = yaml.safe_load(self.saved_config())
        return short_yaml({key: config[key] for key in SHOWN if config.get(key) is not None})

    def _run_subcommand(self, subcommand: str) -> None:
        """Fit for two steps.

        Raises:
            UsageError: says what was refused, or where the user's own code failed.
        """
        try:
            self.trainer.fit(self.model, datamodule=self.datamodule)
        except UsageError:
            raise
        except Exception as error:
            if (message := explained(error)) is None:
                raise
            raise UsageError(message, status=1 if self.trainer.is_set_up else 2) from error
        finally:
            self.scratch.cleanup()
        if self.in_use is not None:
            print(f"the run itself would be refused: {self.in_use}")
        say("dry run: all of this worked; leave --dry_run out to begin")


def num_processes(trainer: Any) -> int:
    """Processes that the settings of a trainer ask for, where they give a number; else 1."""
    devices = trainer.devices
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    count = len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) else 1
    return max(1, count) * int(trainer.num_nodes or 1)
