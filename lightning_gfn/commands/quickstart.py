"""Train a small model from scratch, fine-tune it by each method on equal budgets, and compare them."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

METHODS = ("subtb", "vargrad", "grpo")
DONE = Path("results") / "test_metrics.json"
PRINTING = threading.Lock()


@dataclass(frozen=True)
class Stage:
    """One run of the suite: fit, then test.

    Args:
        method: row of the comparison; the name of the YAML.
        seed: key of data order, initial weights and sampling.
        run_dir: its run folder.
        arguments: command line after ``lightning-gfn run``.
    """

    method: str
    seed: int
    run_dir: Path
    arguments: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name in front of its progress lines."""
        return f"{self.method} seed {self.seed}"


def plan(output: Path, experiments: Path, seeds: Sequence[int]) -> list[list[Stage]]:
    """Groups of stages: supervised runs first, then every method from the supervised model of the same seed.

    Args:
        output: folder of the whole quickstart.
        experiments: folder of the YAML files.
        seeds: one supervised run and one run of each method for each.

    Returns:
        two lists of stages; the stages of one list may run side by side.
    """

    def stage(method: str, seed: int, *extra: str) -> Stage:
        run_dir = output / f"{method}_seed{seed}"
        common = ("--config", str(experiments / f"{method}.yaml"), "--run_dir", str(run_dir), "--if_exists", "resume")
        seeded = (
            "--seed_everything",
            str(seed),
            "--data.init_args.seed",
            str(seed),
            "--model.init_args.seed",
            str(seed),
        )
        return Stage(method, seed, run_dir, (*common, *seeded, *extra))

    supervised = [stage("sft", seed) for seed in seeds]
    tuned = [
        stage(method, seed, "--model.init_args.policy.init_args.pretrained", str(output / f"sft_seed{seed}" / "model"))
        for seed in seeds
        for method in METHODS
    ]
    return [supervised, tuned]


def fingerprint(experiments: Path, seeds: Sequence[int]) -> str:
    """A digest of what decides the quickstart's figures: its YAML files, the groups that they name, and its seeds."""
    digest = hashlib.sha256(json.dumps(list(seeds)).encode())
    files = {path: path.read_text() for path in sorted(experiments.glob("*.yaml"))}
    groups = sorted({name for text in files.values() for name in re.findall(r"\.\./[\w/]+\.yaml", text)})
    for text in (*files.values(), *((experiments / name).read_text() for name in groups)):
        digest.update(text.encode())
    return digest.hexdigest()[:16]


def claim_folder(output: Path, mark: str, *, fresh: bool) -> None:
    """Make sure that the folder holds this quickstart and nothing else.

    Args:
        output: folder of the whole quickstart.
        mark: the present fingerprint.
        fresh: move an existing folder aside and start clean.

    Raises:
        ValueError: the folder holds another quickstart, or something else.
    """
    stamp = output / "quickstart.json"
    if fresh and output.exists():
        number = 1
        while (aside := output.with_name(f"{output.name}.old-{number}")).exists():
            number += 1
        output.rename(aside)
        say("quickstart", f"moved the earlier {output} to {aside}")
    if output.exists() and any(output.iterdir()):
        found = json.loads(stamp.read_text())["fingerprint"] if stamp.exists() else None
        if found != mark:
            what = "a quickstart of other settings" if found else "files that are no quickstart"
            raise ValueError(
                f"{output} holds {what}: start clean "
                f"with --if_exists fresh (the old folder is moved aside), or choose another --output"
            )
        say("quickstart", f"{output} exists: finished stages are kept, an interrupted one goes on from its checkpoint")
    output.mkdir(parents=True, exist_ok=True)
    stamp.write_text(json.dumps({"fingerprint": mark}) + "\n")


def say(label: str, text: str) -> None:
    """Print one progress line."""
    with PRINTING:
        print(f"[{label}] {text}", flush=True)


def run_stage(stage: Stage) -> None:
    """Run one stage in a process of its own, its output passed on line by line and kept in ``<run folder>.log``.

    Raises:
        RuntimeError: the process failed; names the log.
    """
    if (stage.run_dir / DONE).exists():
        say(stage.label, f"already finished ({stage.run_dir / DONE})")
        return
    log_path = stage.run_dir.with_suffix(".log")
    command = [sys.executable, "-m", "lightning_gfn.cli", "run", *stage.arguments]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    start = time.monotonic()
    say(stage.label, "starts")
    with (
        log_path.open("a") as log,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.strip():
                say(stage.label, line.rstrip())
    if process.returncode != 0:
        raise RuntimeError(f"{stage.label} failed with exit status {process.returncode}; its output is in {log_path}")
    say(stage.label, f"finished in {time.monotonic() - start:.0f} s")


def main(args: list[str]) -> int:
    """Run the quickstart; returns the exit status."""
    parser = argparse.ArgumentParser(prog="lightning-gfn quickstart", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/quickstart"), help="folder of all runs and of the comparison"
    )
    parser.add_argument(
        "--if_exists", choices=("resume", "fresh"), default="resume", help="what to do with an earlier one"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run of each method for each seed")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs side by side, one thread each"
    )
    parser.add_argument(
        "--experiments", type=Path, default=Path("experiments/quickstart"), help="folder of the YAML files"
    )
    options = parser.parse_args(args)
    if not (options.experiments / "sft.yaml").exists():
        print(
            f"no {options.experiments}/sft.yaml: run this from the root of a clone, or name --experiments",
            file=sys.stderr,
        )
        return 2
    start = time.monotonic()
    try:
        mark = fingerprint(options.experiments, options.seeds)
        claim_folder(options.output, mark, fresh=options.if_exists == "fresh")
        groups = plan(options.output, options.experiments, options.seeds)
        for group in groups:
            with ThreadPoolExecutor(max_workers=options.jobs) as pool:
                for _ in pool.map(run_stage, group):
                    pass
    except (ValueError, RuntimeError) as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    return compare(options.output, [stage.run_dir for group in groups for stage in group], time.monotonic() - start)


def compare(output: Path, run_dirs: Sequence[Path], seconds: float) -> int:
    """Write the comparison of all runs and say where to look; returns the exit status."""
    command = [
        sys.executable,
        "-m",
        "lightning_gfn.cli",
        "compare",
        *map(str, run_dirs),
        "--output",
        str(output),
        "--baseline",
        "sft",
    ]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        print(
            f"\nFinished in {seconds / 60:.1f} minutes. "
            f"Look at {output}/comparison.md, {output}/comparison.png and {output}/comparison.json;"
        )
        print("`make mlflow` opens the MLflow dashboard of these runs; notebooks/tour.ipynb plots them.")
    return status
