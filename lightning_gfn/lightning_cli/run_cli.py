"""``fit``, ``validate``, ``test``, ``predict`` and ``run``: LightningCLI with a run folder."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.io import CheckpointIO

from lightning_gfn.callbacks.progress import Progress
from lightning_gfn.callbacks.run_health import RunHealth
from lightning_gfn.callbacks.skipped_steps import SkippedStepDump
from lightning_gfn.commands.doctor_parts.precision import suited_precision
from lightning_gfn.lightning_cli.closing import closing_lines, files_of
from lightning_gfn.lightning_cli.parser import Parser
from lightning_gfn.lightning_cli.refusals import (
    UsageError,
    explained,
    one_line,
    raised_while_restoring,
    refused_setting,
    users_error,
)
from lightning_gfn.lightning_cli.stopping.orderly_stop import OrderlyStop
from lightning_gfn.lightning_cli.stopping.rank_watch import RankWatch
from lightning_gfn.lightning_cli.stopping.resume_line import resuming, what_is_left
from lightning_gfn.lightning_cli.trainer import RunTrainer
from lightning_gfn.sharding.strategy import check_name
from lightning_gfn.stop_requests import Interrupted, StopRequests, name_of, tell
from lightning_gfn.tracking.checkpoint_check import check_checkpoint, settings_of
from lightning_gfn.tracking.checkpoint_io import WholeCheckpointIO
from lightning_gfn.tracking.checkpoints import RunCheckpoint
from lightning_gfn.tracking.disk_logger import DiskLogger
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.tracking.rng import RngState
from lightning_gfn.tracking.run_folder import IfExists, RunFolder, RunFolderError, Start
from lightning_gfn.tracking.run_record import RunRecord
from lightning_gfn.whole_files import CheckpointError, replace_text

if TYPE_CHECKING:
    from collections.abc import Sequence

FITTING = ("fit", "run")
PER_CALL = ("config", "ckpt_path", "weights_only", "if_exists", "return_predictions", "dry_run")


class RunCLI(LightningCLI):
    """LightningCLI in subclass mode whose every run has one folder."""

    trainer: RunTrainer
    folder: RunFolder
    start: Start
    checkpoint: Path | None
    was_used: bool
    watch: RankWatch
    is_dry_run = False

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The command in use (making a parser takes a third of a second), and the arguments that YAML does not give."""
        commands = {**LightningCLI.subcommands(), "run": {"model", "datamodule"}}
        return {Parser.command: commands[Parser.command] | {"verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder, checkpoints and MLflow; link what must agree."""
        parser.add_argument("--run_dir", type=str, required=True, help="the folder of this run")
        parser.add_argument(
            "--if_exists",
            type=IfExists,
            default="error",
            help="fit into a folder that holds a run: refuse, go on from its last checkpoint, or move it aside",
        )
        parser.add_argument(
            "--run_health",
            type=bool,
            default=True,
            help="warn of training that cannot learn (callbacks.run_health.RunHealth); false switches it off",
        )
        if Parser.command in FITTING:
            parser.add_argument(
                "--dry_run",
                action="store_true",
                help="show configuration, first example, reward, memory and step time, take two small steps, and end",
            )
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_class_arguments(MLflowLogger, "mlflow")
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        parser.link_arguments("run_dir", "mlflow.run_dir")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about arguments given by a caller.

        Raises:
            UsageError: a file asks for a dry run.
        """
        self.config = parser.parse_args(args)
        if self.config[Parser.command].get("dry_run") and not self.is_dry_run:
            raise UsageError("dry_run is no setting of a run: remove it from the YAML file and give --dry_run")

    def _parse_ckpt_path(self) -> None:
        """Nothing: hyper-parameters stored in a checkpoint never change what YAML and the command line say."""

    def before_instantiate_classes(self) -> None:
        """Decide, before anything is built, how the run stands to its folder."""
        config = self.config[self.subcommand]
        self.check_strategy()
        self.folder = RunFolder(Path(config.run_dir))
        self.start, self.checkpoint = Start(), None
        self.was_used = self.folder.is_used()
        if self.subcommand in FITTING:
            if _get_rank() in (None, 0):
                self.start = self.folder.plan_fit(config.if_exists, config.ckpt_path)
                self.checkpoint = self.start.checkpoint
            elif config.if_exists != "fresh":
                self.checkpoint = self.folder.plan_fit("resume", config.ckpt_path).checkpoint
        else:
            self.checkpoint = self.folder.plan_evaluation(config.ckpt_path)
        if self.checkpoint is not None and _get_rank() in (None, 0):
            made_of = settings_of(yaml.safe_load(self.saved_config()).get("model"))
            check_checkpoint(self.checkpoint, fitting=self.subcommand in FITTING, made_of=made_of)

    def check_strategy(self) -> None:
        """Refuse strategies that would complain of other things first.

        Raises:
            UsageError: names the one to use.
        """
        try:
            check_name(self.config[self.subcommand].trainer.strategy)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def instantiate_classes(self) -> None:
        """Build trainer, model and data.

        Raises:
            UsageError: a class of ours refuses its settings.
        """
        try:
            super().instantiate_classes()
        except Exception as error:
            if (message := refused_setting(error)) is None:
                raise
            raise UsageError(message) from error

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command; an error that a sentence explains keeps its traceback in a file of the run folder.

        Raises:
            UsageError: says what was refused, or where the user's own code failed.
        """
        before = files_of(self.folder.path)
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as stop:
            raise self.interrupted(stop) from None
        except (UsageError, RunFolderError, CheckpointError):
            raise
        except Exception as error:
            file = self.folder.error_file
            replace_text(file, "".join(traceback.format_exception(error)))
            if self.trainer.world_size > 1 and (reason := self.watch.reason()) is not None:
                raise UsageError(f"{reason}, so this one cannot go on. {self.watch.remedy()}", status=1) from error
            if raised_while_restoring(error):
                raise UsageError(
                    f"checkpoint {self.checkpoint} does not fit this configuration ({one_line(error)}): use the "
                    "config.yaml of the run that wrote it, or another --ckpt_path"
                ) from error
            if (message := explained(error)) is None:
                raise
            more = f"\nThe traceback is in {file}." if self.trainer.is_set_up or users_error(error) else ""
            raise UsageError(f"{message}{more}", status=1 if self.trainer.is_set_up else 2) from error
        if self.trainer.is_global_zero and not self.trainer.interrupted:
            for line in closing_lines(subcommand, self.folder.path, before, self.trainer, self.checkpoint):
                say(line)

    def interrupted(self, stop: SystemExit) -> SystemExit:
        """Say what a signal left, and with which status this process ends."""
        requests = StopRequests.active
        if requests is None or requests.signum is None:
            return stop
        if _get_rank() in (None, 0):
            saved = {callback.saved_step for callback in self.trainer.checkpoint_callbacks
                     if isinstance(callback, RunCheckpoint)}  # fmt: skip
            fitting = self.trainer.state.fn == "fit"
            what = what_is_left(self.folder, self.trainer, fitting and self.trainer.global_step in saved)
            tell(f"{name_of(requests.signum)}: {what}")
            tell(f"go on with: {resuming(Parser.arguments)}")
        return Interrupted(requests.signum)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our loggers and callbacks; ``trainer.logger`` adds further ones, false leaves out MLflow."""
        config = self.config_init[self.subcommand]
        more: Logger | Sequence[Logger] | bool | None = config.trainer.logger
        disk = DiskLogger(self.folder.path)
        loggers: list[Logger] = [disk]
        if more is not False:
            config.mlflow.follow(disk)
            loggers.append(config.mlflow)
        if isinstance(more, Logger):
            loggers.append(more)
        elif not isinstance(more, bool) and more is not None:
            loggers.extend(more)
        given = config.trainer.callbacks
        callbacks: list[Callback] = [] if given is None else list(given) if isinstance(given, list) else [given]
        if config.trainer.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Progress())
        if config.run_health and not any(isinstance(c, RunHealth) for c in callbacks):
            callbacks.append(RunHealth())
        requests = StopRequests.active if StopRequests.active is not None else StopRequests()
        self.watch = RankWatch(self.folder.path)
        callbacks += [OrderlyStop(requests, self.watch)]
        callbacks += [SkippedStepDump(), RngState(), RunRecord(self.folder, self.saved_config(), self.described())]
        kwargs["plugins"] = with_whole_checkpoints(config.trainer.plugins)
        kwargs["precision"], changed = suited_precision(config.trainer.precision, config.trainer.accelerator)
        if changed is not None and _get_rank() in (None, 0):
            say(changed)
        return super().instantiate_trainer(logger=loggers, callbacks=callbacks, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Only now, when nothing can fail any more for its configuration, touch the folder."""
        if _get_rank() not in (None, 0):
            return
        config = self.config[self.subcommand]
        if self.start.set_aside:
            say(f"moved the earlier run to {self.folder.set_aside()}")
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.error_file.unlink(missing_ok=True)
        self.folder.stamp(str(self.subcommand), resumed_from=self.checkpoint)
        if self.checkpoint is not None:
            say(f"{self.subcommand} goes on from {self.checkpoint}")
        elif self.was_used and config.get("if_exists") == "resume":
            say(f"{self.folder.path} holds no checkpoint to resume from: {self.subcommand} starts at step 0")
        elif self.subcommand not in FITTING:
            say(f"{self.subcommand} uses the model as configured: no checkpoint")

    def saved_config(self) -> str:
        """The whole configuration as YAML, without what holds for one call only."""
        config = Namespace(self.config[self.subcommand].clone())
        for key in PER_CALL:
            config.pop(key, None)
        return str(self._parser(self.subcommand).dump(config, skip_unset=False, skip_validation=True))

    def described(self) -> dict[str, Any]:
        """Tags of the run."""
        seed = self.config[self.subcommand].seed_everything
        return {"seed": seed, "method": getattr(self.model, "method", type(self.model).__name__)}

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["ckpt_path"] = str(self.checkpoint) if self.checkpoint is not None else None
        if kwargs.get("weights_only") is None:
            kwargs["weights_only"] = True
        if subcommand in ("validate", "test"):
            kwargs["verbose"] = False  # the evaluation callback prints the figures that count
        if subcommand == "predict":
            kwargs["return_predictions"] = (
                False  # the prediction writer stored them; Lightning cannot move frozen records
            )
        return kwargs


def with_whole_checkpoints(given: Any) -> list[Any]:
    """The trainer's plugins, ours for checkpoint files among them unless another is given."""
    plugins = [] if given is None else list(given) if isinstance(given, list) else [given]
    own = any(isinstance(plugin, CheckpointIO) for plugin in plugins)
    return plugins if own else [*plugins, WholeCheckpointIO()]


def say(text: str) -> None:
    """Print one line."""
    print(f"[lightning-gfn] {text}", flush=True)
