"""Sample the training problems, make a file of examples, train on it: what rft, star and pairs share."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gfn.stop_requests import is_interruption
from lightning_gfn.studies.samples import replace_file
from lightning_gfn.studies.worker import ENVIRONMENT, Worker

PER_CALL = ("config", "if_exists", "ckpt_path", "weights_only", "run_dir", "dry_run")
BUDGETS = ("lightning_gfn.callbacks.budget.Budget", "lightning_gfn.callbacks.Budget")


class PipelineError(ValueError):
    """Options or files that cannot be used; the message says what to change."""


class StageFailed(RuntimeError):
    """A stage that failed; the message says where its output is."""


def add_options(parser: argparse.ArgumentParser, *, file_mode: bool = True) -> None:
    """The options that say what is sampled, where everything goes, and how verdicts are distorted."""
    if file_mode:
        parser.add_argument(
            "--predictions", metavar="FILE", type=Path, help="predictions.jsonl to use; not sampled then"
        )
        parser.add_argument("--output", metavar="FILE", type=Path, help="write the examples here and train nothing")
    parser.add_argument(
        "--config", metavar="YAML", action="append", default=[], help="the run to train; repeat it for overlays"
    )
    parser.add_argument("--run_dir", metavar="DIR", type=Path, help="run folder of the training, intermediates inside")
    sampling = parser.add_argument_group("sampling of the training problems")
    sampling.add_argument("--num_samples", type=int, default=8, help="samples a problem (default: 8)")
    sampling.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default: 1)")
    sampling.add_argument("--sample_seed", type=int, default=0, help="key of the samples (default: 0)")
    noise = parser.add_argument_group("label noise")
    noise.add_argument("--flip_probability", metavar="P", type=float, default=0.0, help="share of verdicts turned over")
    noise.add_argument("--flip_seed", type=int, default=0, help="key of the noise (default: 0)")


def parse(parser: argparse.ArgumentParser, args: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options of a command, and what it passes on to the run: every further ``--key value``.

    Raises:
        PipelineError: options are missing or exclude each other.
    """
    parser.epilog = "Further options (--model.…, --data.…, --trainer.…) are passed on to the run."
    options, overrides = parser.parse_known_args(args)
    output, predictions = getattr(options, "output", None), getattr(options, "predictions", None)
    if (output is None) == (options.run_dir is None):
        raise PipelineError(
            "give --config and --run_dir to sample and train"
            + (", or --predictions and --output" * hasattr(options, "output"))
        )
    if output is not None and predictions is None:
        raise PipelineError("--output needs --predictions: the predictions.jsonl that lightning-gfn predict wrote")
    if output is not None and (options.config or overrides):
        raise PipelineError(f"--output trains nothing: leave out {' '.join([*options.config, *overrides])}")
    if options.run_dir is not None and not options.config:
        raise PipelineError("--run_dir needs --config: the YAML file of the run to train")
    return options, overrides


def resolved_config(configs: Sequence[str], overrides: Sequence[str]) -> dict[str, Any]:
    """The whole configuration of the run, checked, without what holds for one call only.

    Raises:
        PipelineError: it is not valid; holds the parser's message.
    """
    import yaml

    arguments = [text for path in configs for text in ("--config", path)]
    command = [sys.executable, "-m", "lightning_gfn.cli", "run", *arguments, *overrides, "--print_config"]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PipelineError(done.stderr.strip())
    config = yaml.safe_load(done.stdout)
    return {key: value for key, value in config.items() if key not in PER_CALL}


def with_prior(config: dict[str, Any], prior: Sequence[Path]) -> dict[str, Any]:
    """The configuration with the cost of earlier stages added to its budget, if it keeps one."""
    trainer = dict(config["trainer"])
    callbacks = trainer.get("callbacks")
    trainer["callbacks"] = [
        {**item, "init_args": {**item.get("init_args", {}), "prior": [str(path) for path in prior]}}
        if item.get("class_path") in BUDGETS
        else item
        for item in (callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else [])
    ]
    return {**config, "trainer": trainer}


@contextmanager
def pipeline(name: str, options: argparse.Namespace, overrides: Sequence[str]) -> Iterator[Pipeline]:
    """The stages of one method in a run folder that is claimed for it; its process ends with the block."""
    found = Pipeline(name, options, resolved_config(options.config, overrides), Worker())
    found.claim()
    try:
        yield found
    finally:
        found.worker.close()


@dataclass
class Pipeline:
    """The stages of one method in its run folder; each is done once, and a killed command goes on with the next.

    Args:
        name: of the method; intermediates lie in ``<run folder>/<name>``.
        options: the command's options.
        config: whole configuration of the training run.
        worker: carries out the stages in one process.
    """

    name: str
    options: argparse.Namespace
    config: dict[str, Any]
    worker: Worker

    @property
    def folder(self) -> Path:
        """Where the intermediates lie."""
        return Path(self.options.run_dir) / self.name

    def claim(self) -> None:
        """Make sure that the folder holds this method with these settings, or nothing.

        Raises:
            PipelineError: it was made with other settings.
        """
        settings = {key: value for key, value in vars(self.options).items() if key not in ("config", "run_dir")}
        text = json.dumps({"options": settings, "config": self.config}, indent=2, default=str) + "\n"
        mark = self.folder / "settings.json"
        if mark.is_file() and mark.read_text(encoding="utf-8") != text:
            raise PipelineError(
                f"{self.options.run_dir} was made with other settings ({mark}): choose another --run_dir"
            )
        replace_file(mark, text)

    def execute(self, label: str, arguments: Sequence[str]) -> None:
        """Carry out one command in the worker process.

        Raises:
            StageFailed: names the log.
        """
        log_path = self.folder / "log.txt"
        status = self.worker.run(label, arguments, log_path)
        if status != 0:
            how = "was interrupted" if is_interruption(status) else f"failed with exit status {status}"
            raise StageFailed(f"{label} {how}; its output is in {log_path}. The same command goes on from here")

    def configured(self, path: Path, config: dict[str, Any]) -> list[str]:
        """Arguments that name a configuration, written to a file."""
        import yaml

        replace_file(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return ["--config", str(path)]

    def sample(self, folder: Path, *, seed: int, overrides: Sequence[str] = ()) -> Path:
        """Sample the training problems, unless that is done; returns the predictions.

        Args:
            folder: run folder of the sampling.
            seed: key of the samples.
            overrides: further arguments of ``predict``.

        Raises:
            PipelineError: the run writes no predictions.
            StageFailed: names the log.
        """
        predictions = folder / "predictions" / "predictions.jsonl"
        if not predictions.is_file():
            options = self.options
            settings = {
                "data.init_args.predict_split": "train",
                "model.init_args.evaluation.num_samples": str(options.num_samples),
                "model.init_args.evaluation.temperatures": f"[{options.temperature}]",
                "model.init_args.evaluation.seed": str(seed),
            }
            config = self.configured(self.folder / "config.yaml", self.config)
            more = [text for key, value in settings.items() for text in (f"--{key}", value)]
            self.execute(f"{self.name} sample", ["predict", *config, "--run_dir", str(folder), *more, *overrides])
        if not predictions.is_file():
            raise PipelineError(f"{predictions} was not written: trainer.callbacks lacks the callback PredictionWriter")
        return predictions

    def train(self, run_dir: Path, data: Path, prior: Sequence[Path]) -> None:
        """Train on a file of examples and test, going on from the last checkpoint, unless that is done."""
        if (run_dir / "results" / "test_metrics.json").is_file():
            return
        costs = [path for path in prior if path.is_file()]
        for path in set(prior) - set(costs):
            print(f"{path} does not exist: the budget of {run_dir} leaves out what that stage cost", flush=True)
        config = self.configured(data.with_suffix(".yaml"), with_prior(self.config, costs))
        where = ["--run_dir", str(run_dir), "--if_exists", "resume"]
        self.execute(f"{self.name} train", ["run", *config, *where, "--data.init_args.path", str(data)])


def make_and_train(
    name: str,
    options: argparse.Namespace,
    overrides: Sequence[str],
    make: Callable[[Path, Path, argparse.Namespace], None],
    file_name: str,
) -> None:
    """Make a file of examples from predictions, and nothing else if ``--output`` says so; or sample, make and train.

    Args:
        name: of the method.
        options: the command's options.
        overrides: what is passed on to the run.
        make: from predictions to examples: takes both paths and the options.
        file_name: of the examples among the intermediates.
    """
    if options.output is not None:
        make(options.predictions, options.output, options)
        return
    with pipeline(name, options, overrides) as stages:
        predictions = options.predictions
        if predictions is None:
            predictions = stages.sample(stages.folder / "sample", seed=options.sample_seed)
        examples = stages.folder / file_name
        make(predictions, examples, options)
        stages.train(options.run_dir, examples, [predictions.with_name("budget.json")])


def run_command(name: str, work: Callable[[list[str]], None], args: list[str]) -> int:
    """Carry out a command's work; its errors become one line and an exit status.

    Args:
        name: of the command.
        work: takes the arguments.
        args: of the command.

    Returns:
        0 if it was done, 1 if a stage failed, 2 if options or files cannot be used.
    """
    try:
        work(args)
    except (ValueError, StageFailed) as error:
        print(f"lightning-gfn {name}: {error}", file=sys.stderr)
        return 1 if isinstance(error, StageFailed) else 2
    return 0
