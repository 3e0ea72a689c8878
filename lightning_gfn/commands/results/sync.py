"""Send to MLflow what it lacks of runs on disk, without duplicates."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_gfn.tracking.mirror.run_sync import Missing


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn sync``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn sync",
        description=__doc__,
        epilog="The disk is the truth: figures are compared by key, step, value and time, then parameters, tags and "
        "files. Doing it twice changes nothing. A run that is resumed does the same by itself.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders, or folders of runs (a study)")
    parser.add_argument(
        "--tracking_uri", metavar="URI", help="MLflow store or server (default: that of the run, as its run.json says)"
    )
    parser.add_argument("--dry_run", action="store_true", help="say what is missing, and send nothing")
    parser.add_argument(
        "--fresh", action="store_true", help="make a new MLflow run where the present one has figures the disk lacks"
    )
    return parser


def main(args: list[str]) -> int:
    """Run the command; 1 if a run could not be sent, 2 if there is no run."""
    options = build_parser().parse_args(args)
    from lightning_gfn.tracking.mirror.run_sync import run_folders
    from lightning_gfn.tracking.mirror.study import send_study

    try:
        folders = list(dict.fromkeys(folder for path in options.runs for folder in run_folders(path)))
    except FileNotFoundError as error:
        print(f"lightning-gfn sync: {error}", file=sys.stderr)
        return 2
    failed = 0
    for number, folder in enumerate(folders, 1):
        print(f"[{number}/{len(folders)}] {folder}: ", end="", flush=True)
        failed += not synced(folder, options)
    for path in options.runs if not failed and not options.dry_run else ():
        try:
            if count := send_study(path, options.tracking_uri):
                print(f"{path}: {count} stages and the comparison stand under one run")
        except Exception as error:  # whatever a store or server answers
            print(
                f"lightning-gfn sync: {path}: the comparison was not sent ({error}); repeat the command",
                file=sys.stderr,
            )
            failed += 1
    if failed:
        print(f"lightning-gfn sync: {failed} of {len(folders)} runs were not brought up to date", file=sys.stderr)
    return int(failed > 0)


def synced(folder: Path, options: argparse.Namespace) -> bool:
    """Bring one run up to date and print a line about it; False if that failed.

    Args:
        folder: the run folder.
        options: of the command.
    """
    from lightning_gfn.tracking.mirror.run_sync import RunSync

    uri = options.tracking_uri
    try:
        sync = RunSync(folder, options.tracking_uri)
        uri = sync.uri
        missing = sync.compare()
        if missing.surplus and options.fresh and not options.dry_run:
            sync.forget()
            missing = sync.compare()
        if missing and not options.dry_run:
            sync.send(missing)
    except Exception as error:  # whatever a store or server answers
        print("not sent", flush=True)
        text = str(error).splitlines()[0][:200] if str(error) else "no reason given"
        print(
            f"lightning-gfn sync: MLflow at {uri}: {type(error).__name__}: {text}\n"
            "Start the server (mlflow server), or name another with --tracking_uri; then repeat the command. "
            "Nothing on disk was changed.",
            file=sys.stderr,
        )
        return False
    print(told(missing, options.dry_run))
    return True


def told(missing: Missing, dry_run: bool) -> str:
    """What was sent (or is missing), and what was not and why."""
    counts = {
        "figures": len(missing.figures),
        "parameters": len(missing.params),
        "tags": len(missing.tags),
        "files": len(missing.files),
        "status": int(missing.status is not None),
    }
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lines = [f"{'MLflow lacks' if dry_run else 'sent'} {parts}" if parts else "up to date"]
    if missing.held_back:
        lines.append(f"  {missing.held_back} rows come after its last checkpoint: sent when the run has gone on")
    if missing.surplus:
        lines.append(f"  MLflow has {missing.surplus} figures that the disk lacks: --fresh makes a new MLflow run")
    return "\n".join(lines)
