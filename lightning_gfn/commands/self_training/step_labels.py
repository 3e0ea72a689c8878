"""Sample solutions with a run's policy and label their steps, exactly or by completing from each, in TRL's form."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

WRITER = "lightning_gfn.callbacks.step_labels.StepLabelWriter"
LABELLERS = "lightning_gfn.rollouts.step_labels"
EXACT = {"solutions": f"{LABELLERS}.ExactSolutions", "arithmetic": f"{LABELLERS}.ExactArithmetic"}


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn step_labels``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn step_labels",
        description=__doc__,
        epilog="Further arguments go to lightning-gfn predict, for instance --data.init_args.predict_split train, "
        "--data.init_args.num_train 500 or --model.init_args.evaluation.num_samples 4.",
    )
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run folder of the policy (its newest checkpoint is used)"
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--exact",
        choices=tuple(EXACT),
        help="labels that are known: the text begins a correct solution (data with a known solution set), or no "
        "equation and no answer in it is wrong",
    )
    how.add_argument(
        "--completions",
        metavar="N",
        type=int,
        help="complete N times from the end of each step; soft label: the share that succeeds; hard label: any did",
    )
    parser.add_argument("--temperature", metavar="T", type=float, default=1.0, help="of the completions (default: 1)")
    parser.add_argument("--label_seed", metavar="SEED", type=int, default=0, help="of the completions (default: 0)")
    parser.add_argument("--separator", default="\\n", help=r"text that ends a step (default: \n)")
    parser.add_argument("--folder", default="step_labels", help="folder inside RUN to write to (default: step_labels)")
    parser.add_argument("--config", type=Path, help="configuration of the run (default: RUN/config.yaml)")
    return parser


def labeller(options: argparse.Namespace) -> dict[str, object]:
    """The labeller's class and settings."""
    if options.exact is not None:
        return {"class_path": EXACT[options.exact]}
    settings = {
        "num_completions": options.completions, "temperature": options.temperature, "seed": options.label_seed
    }  # fmt: skip
    return {"class_path": f"{LABELLERS}.Completions", "init_args": settings}


def predict_arguments(options: argparse.Namespace, further: list[str]) -> list[str]:
    """The call of ``lightning-gfn predict`` that samples and labels."""
    config = options.config if options.config is not None else options.run / "config.yaml"
    writer = {
        "class_path": WRITER,
        "init_args": {
            "labeller": labeller(options),
            "separator": options.separator.replace("\\n", "\n"),
            "folder": options.folder,
        },
    }
    named = ["--config", str(config), "--run_dir", str(options.run)]
    return ["predict", *named, "--trainer.callbacks+", json.dumps(writer), *further]


def main(args: list[str]) -> int:
    """Run the command; returns the exit status of ``predict``."""
    options, further = build_parser().parse_known_args(args)
    config = options.config if options.config is not None else options.run / "config.yaml"
    if not config.is_file():
        print(f"step_labels: {config} does not exist: give the folder of a run, or --config", file=sys.stderr)
        return 2
    if options.completions is not None and options.completions < 1:
        print(f"step_labels: --completions is {options.completions}, expected at least 1", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "lightning_gfn.cli", *predict_arguments(options, further)]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        print(f"labels: {options.run / options.folder / 'step_labels.jsonl'}")
    return status
