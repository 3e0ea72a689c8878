"""``fit``, ``validate``, ``test``, ``predict`` and ``run``: LightningCLI with a run folder."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import logging
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger

from lightning_gfn.callbacks.progress import Progress
from lightning_gfn.callbacks.run_health import RunHealth
from lightning_gfn.installation.our_datamodules import DatamodulesError, check_datamodules, prefer_our_datamodules
from lightning_gfn.tracking.checkpoints import RunCheckpoint
from lightning_gfn.tracking.disk_logger import DiskLogger
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.tracking.rng import RngState
from lightning_gfn.tracking.run_folder import IfExists, RunFolder, RunFolderError, Start
from lightning_gfn.tracking.run_record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

FITTING = ("fit", "run")
TRAINER_DEFAULTS: dict[str, Any] = {
    # Our datamodules share the problems among ranks themselves, by problem id.
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
}
PER_CALL = ("config", "ckpt_path", "weights_only", "if_exists", "return_predictions")


class RunTrainer(Trainer):
    """Lightning's trainer with one more entry point."""

    def run(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Fit, then test the weights that it ended with.

        Args:
            model: what to train.
            datamodule: the data.
            ckpt_path: checkpoint to go on from (last, best, a path, none).
            weights_only: load checkpoints without unpickling code; True if not given.
        """
        self.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only)
        if not self.interrupted:
            self.test(model, datamodule=datamodule, verbose=False)


class Parser(LightningArgumentParser):
    """A parser whose errors about unknown keys say which key may have been meant."""

    command = ""

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Parse; a value of a nested class, which jsonargparse hands on as Python's text for it, keeps its nulls."""
        return super().parse_args(None if args is None else [with_null(arg) for arg in args], *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message, without the usage of a hundred options before it, and exit with status 2."""
        hint = "" if "Did you mean" in message else suggestion(message, known_keys(self))
        print(f"lightning-gfn {self.command}: error: {message}{hint}", file=sys.stderr)
        print(f"lightning-gfn {self.command} --help lists all options.", file=sys.stderr)
        raise SystemExit(2)


def with_null(argument: str) -> str:
    """``--key=None`` as ``--key=null``, also inside lists and dictionaries; other arguments as they are."""
    key, equals, value = argument.partition("=")
    if not key.startswith("--") or not equals or "None" not in value:
        return argument
    try:
        return f"{key}={json.dumps(ast.literal_eval(value))}"
    except (ValueError, SyntaxError, TypeError):
        return argument


def known_keys(parser: argparse.ArgumentParser) -> set[str]:
    """The keys of a parser and of its commands."""
    keys = set()
    for action in parser._actions:
        keys.add(action.dest)
        choices = action.choices if isinstance(action.choices, dict) else {}
        for command in choices.values():
            keys |= known_keys(command)
    return keys


def suggestion(message: str, known: set[str]) -> str:
    """``Did you mean …?`` for the misspelt key that a message names; empty if nothing is close."""
    found = re.search(r"(?:[Kk]ey|[Oo]ption|arguments:|attribute) ['\"]?(?:--)?([\w.]+)", message)
    name = found.group(1) if found is not None else ""
    if not name or name in known:
        return ""
    last_parts = {key.rsplit(".", 1)[-1]: key for key in known}
    for part, candidates in (
        (name, {key: key for key in known}),
        (name.rsplit(".", 1)[-1], last_parts),
        (name.split(".", 1)[0], {key: key for key in known if "." not in key}),
    ):
        if close := difflib.get_close_matches(part, candidates, n=1, cutoff=0.75):
            return f"\nDid you mean {candidates[close[0]]!r}?"
    return ""


def check_yaml(args: Sequence[str]) -> None:
    """Make sure that every ``--config`` file is YAML, because the parser's own message would not name the file.

    Raises:
        UsageError: naming the file and the line.
    """
    for option, value in zip(args, [*args[1:], ""], strict=True):
        name = value if option in ("--config", "-c") else option.removeprefix("--config=")
        if name == option or not Path(name).is_file():
            continue
        try:
            yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark is not None else "?"
            raise UsageError(f"{name}, line {line}: not YAML ({error.problem})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}: not YAML ({error})") from error


def raised_in(error: BaseException) -> str:
    """The package whose code raised an error; empty if it was not raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


def refused_setting(error: BaseException) -> str | None:
    """What a class of ours says against its settings, without the parser's account of how it came to build the class.

    None for any other error: those of the user's own classes keep their traceback.
    """
    while error.__cause__ is not None and raised_in(error) == "jsonargparse":
        error = error.__cause__
    ours = raised_in(error) in ("lightning_gfn", "datamodules")
    return str(error) if ours and isinstance(error, (ValueError, TypeError, OSError, ImportError)) else None


class UsageError(ValueError):
    """A command line that cannot be carried out; the message says what to do instead."""


class RunCLI(LightningCLI):
    """LightningCLI in subclass mode whose every run has one folder."""

    folder: RunFolder
    start: Start
    checkpoint: Path | None

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
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_class_arguments(MLflowLogger, "mlflow")
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        parser.link_arguments("run_dir", "mlflow.run_dir")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about arguments given by a caller."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: hyper-parameters stored in a checkpoint never change what YAML and the command line say."""

    def before_instantiate_classes(self) -> None:
        """Decide, before anything is built, how the run stands to its folder."""
        config = self.config[self.subcommand]
        self.folder = RunFolder(Path(config.run_dir))
        self.start, self.checkpoint = Start(), None
        if self.subcommand in FITTING:
            if _get_rank() in (None, 0):
                self.start = self.folder.plan_fit(config.if_exists, config.ckpt_path)
                self.checkpoint = self.start.checkpoint
            elif config.if_exists != "fresh":
                self.checkpoint = self.folder.plan_fit("resume", config.ckpt_path).checkpoint
        else:
            self.checkpoint = self.folder.plan_evaluation(config.ckpt_path)

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

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our loggers and callbacks; ``trainer.logger`` adds further ones, false leaves out MLflow."""
        config = self.config_init[self.subcommand]
        more: Logger | Sequence[Logger] | bool | None = config.trainer.logger
        loggers: list[Logger] = [DiskLogger(self.folder.path)]
        if more is not False:
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
        callbacks += [RngState(), RunRecord(self.folder, self.saved_config(), self.described())]
        return super().instantiate_trainer(logger=loggers, callbacks=callbacks, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Only now, when nothing can fail any more for its configuration, touch the folder."""
        if _get_rank() not in (None, 0):
            return
        if self.start.set_aside:
            say(f"moved the earlier run to {self.folder.set_aside()}")
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.stamp(str(self.subcommand), resumed_from=self.checkpoint)
        if self.checkpoint is not None:
            say(f"{self.subcommand} goes on from {self.checkpoint}")
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


def say(text: str) -> None:
    """Print one line."""
    print(f"[lightning-gfn] {text}", flush=True)


def quiet_lightning() -> None:
    """Leave out Lightning's advertisements, and its warnings about what it and we do on purpose."""
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device`")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")  # the frozen reference
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())


def main(args: list[str]) -> int:
    """Run one trainer command; returns the exit status."""
    quiet_lightning()
    Parser.command = args[0]
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # a console script does not look there for the user's own classes
    if (note := prefer_our_datamodules()) is not None:
        print(f"[lightning-gfn] {note}", file=sys.stderr, flush=True)
    try:
        if not {"-h", "--help"} & set(args):
            check_datamodules()
        check_yaml(args)
        RunCLI(
            trainer_class=RunTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_callback=None,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )
    except (UsageError, RunFolderError, DatamodulesError) as error:
        print(f"lightning-gfn {args[0]}: {error}", file=sys.stderr)
        return 2
    return 0
