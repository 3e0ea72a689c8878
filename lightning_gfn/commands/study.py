"""Run every stage of a study file (training, sampling, searches, tests), go on where it stopped, and compare."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lightning_gfn.studies.plan import read_study
from lightning_gfn.studies.runner import Runner, mark_of
from lightning_gfn.studies.stages import Comparison, Stage, Study, StudyError
from lightning_gfn.studies.worker import say


def build_parser(prog: str = "lightning-gfn study", description: str | None = __doc__) -> argparse.ArgumentParser:
    """The options that all studies have."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder of all runs (default: the file's)")
    parser.add_argument("--seeds", type=int, nargs="+", help="run every stage for each seed (default: the file's)")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs side by side, one thread each"
    )
    parser.add_argument(
        "--if_exists", choices=("resume", "fresh"), default="resume", help="what to do with an earlier output folder"
    )
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if every stage ended and every comparison was written."""
    parser = build_parser()
    parser.add_argument("file", metavar="FILE", type=Path, help="the study, for example experiments/studies/….yaml")
    parser.add_argument("--only", metavar="STAGE", nargs="+", help="run these stages and what they need")
    parser.add_argument("--dry_run", action="store_true", help="print the stages and run nothing")
    options = parser.parse_args(args)
    return run_study(
        options.file,
        output=options.output,
        seeds=options.seeds,
        jobs=options.jobs,
        fresh=options.if_exists == "fresh",
        only=options.only,
        dry_run=options.dry_run,
    )


def run_study(
    path: Path,
    *,
    output: Path | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    fresh: bool = False,
    only: Sequence[str] | None = None,
    dry_run: bool = False,
) -> int:
    """Carry out a study file.

    Args:
        path: the study file.
        output: folder of all runs, instead of the file's.
        seeds: instead of the file's.
        jobs: stages side by side.
        fresh: move an existing output folder aside and start clean.
        only: names of stages to run, with what they need; comparisons are made of what has ended then.
        dry_run: print the plan and stop.

    Returns:
        the exit status.
    """
    start = time.monotonic()
    try:
        study = read_study(path, output=output, seeds=seeds)
        chosen = with_needs(study, only) if only is not None else None
    except StudyError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    if dry_run:
        print_plan(study, chosen)
        return 0
    if fresh and study.output.exists():
        say("study", f"moved the earlier {study.output} to {set_aside(study.output)}")
    study.output.mkdir(parents=True, exist_ok=True)
    note_stages(study)
    failed = Runner(study, jobs=jobs, only=chosen).run()
    for key, reason in failed.items():
        print(f"study: {key}: {reason}", file=sys.stderr)
    if failed:
        print("study: the same command goes on from here", file=sys.stderr)
        return 1
    statuses = [compare(study, comparison) for comparison in study.comparisons]
    tell_mlflow(study.output)
    say("study", f"finished in {(time.monotonic() - start) / 60:.1f} minutes; everything lies in {study.output}")
    return max(statuses, default=0)


def note_stages(study: Study) -> None:
    """Write down which run folder builds on which, for MLflow."""
    from lightning_gfn.tracking.mirror.study import write_stages

    def folder(key: str) -> str:
        return Path(os.path.relpath(study.stages[key].run_dir, study.output)).as_posix()

    write_stages(
        study.output, {folder(key): [folder(need) for need in stage.needs] for key, stage in study.stages.items()}
    )


def tell_mlflow(output: Path) -> None:
    """Give the stages that MLflow tracks a parent run with the comparison; a store that refuses costs a line."""
    from lightning_gfn.tracking.mirror.study import send_study

    try:
        if count := send_study(output):
            say("study", f"MLflow shows {count} stages and the comparison under one run, {output.name}")
    except Exception as error:  # whatever a store or server answers
        text = str(error).splitlines()[0][:200] if str(error) else "no reason given"
        say(
            "study",
            f"MLflow did not take the comparison ({type(error).__name__}: {text}); later: lightning-gfn sync {output}",
        )


def with_needs(study: Study, names: Sequence[str]) -> set[str]:
    """Keys of the stages of these names and of all that they need.

    Raises:
        StudyError: there is no stage of such a name.
    """
    pending = [key for key, stage in study.stages.items() if stage.name in names and stage.seed in study.seeds]
    if missing := set(names) - {study.stages[key].name for key in pending}:
        raise StudyError(f"{study.path}: there is no stage {min(missing)!r}; --dry_run lists them")
    found: set[str] = set()
    while pending:
        key = pending.pop()
        if key not in found:
            found.add(key)
            pending += study.stages[key].needs
    return found


def print_plan(study: Study, chosen: set[str] | None) -> None:
    """The stages, what they wait for, and their command lines."""
    for key, stage in study.stages.items():
        if chosen is None or key in chosen:
            state = "done" if mark_of(stage).is_file() else "to do"
            print(f"{key} ({state})" + (f" after {', '.join(stage.needs)}" if stage.needs else ""))
            for command in stage.command_lines():
                print(f"    lightning-gfn {' '.join(command)}")


def set_aside(folder: Path) -> Path:
    """Rename the folder to ``<name>.old-N`` and return the new name."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return folder.rename(aside)


def ended_runs(study: Study, comparison: Comparison) -> tuple[list[Stage], list[str]]:
    """The stages of a comparison that have ended, and the names of those that have ended for no seed."""
    stages = [study.stages[f"{name}@{seed}"] for seed in study.seeds for name in comparison.stages]
    ended = [stage for stage in stages if mark_of(stage).is_file()]
    names = {stage.name for stage in ended}
    return ended, [name for name in comparison.stages if name not in names]


def compare(study: Study, comparison: Comparison) -> int:
    """Write one comparison of the stages that have ended; returns the exit status."""
    runs, missing = ended_runs(study, comparison)
    folder = study.output / comparison.name
    methods = {stage.method for stage in runs}
    if missing and (len(methods) < 2 or comparison.baseline not in {None, *methods}):
        say("study", f"no comparison in {folder} yet, still to be run: {', '.join(missing)}")
        return 0
    if missing:
        say("study", f"the comparison in {folder} is of what has ended, still to be run: {', '.join(missing)}")
    command = [sys.executable, "-m", "lightning_gfn.cli", "compare", *(str(stage.run_dir) for stage in runs)]
    command += ["--output", str(folder), *comparison.arguments]
    if comparison.baseline is not None:
        command += ["--baseline", comparison.baseline]
    return subprocess.run(command, check=False).returncode
