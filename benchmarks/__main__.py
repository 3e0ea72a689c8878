"""Measure speed and memory beside the peers: ``python -m benchmarks [NAME …]``; ``--list`` names the rows.

All figures of a table are of one run, the two sides of a row in turn. Times are processor seconds of the process on one
thread unless a row says otherwise, so that other work on the machine weighs less.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.frame.measure import Outcome
    from benchmarks.frame.row import Options, Row

RESULTS = Path(__file__).resolve().parent / "results"


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="rows to run, with * for any text (default: all but a few)"
    )
    parser.add_argument("--list", action="store_true", help="name the rows, and say which cannot run here")
    parser.add_argument("--full", action="store_true", help="the shapes of the targets also where they take long")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--rounds", type=int, help="turns of each side (default: the row's own number)")
    parser.add_argument("--minutes", type=float, help="start no row after so many minutes (default: no limit)")
    parser.add_argument("--output", type=Path, help="file of results (default: benchmarks/results/DATE.json)")
    parser.add_argument("--check", action="store_true", help="fail if a ratio is 15%% below benchmarks/baselines.json")
    parser.add_argument("--check-file", type=Path, metavar="FILE", help="check a file of results; measure nothing")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print a file of results; measure nothing")
    parser.add_argument("--keep", action="store_true", help="write the ratios of this run to benchmarks/baselines.json")
    return parser


def chosen(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows that fit one of the patterns; without any all but those that run by name only.

    Raises:
        SystemExit: a pattern fits none.
    """
    for pattern in patterns:
        if not any(fnmatch(row.name, pattern) for row in rows):
            raise SystemExit(f"no row is named {pattern}: python -m benchmarks --list names them")
    if not patterns:
        return [row for row in rows if not row.by_name_only]
    return [row for row in rows if any(fnmatch(row.name, pattern) for pattern in patterns)]


def show_list(rows: Sequence[Row]) -> None:
    """Print names, what they compare, targets, and why some cannot run."""
    for row in rows:
        reason = row.reason_to_skip()
        notes = " (by name only)" * row.by_name_only + (f" [not here: {reason}]" if reason else "")
        print(f"{row.name:30} {row.what}; target {row.target.text()}{notes}")


def run_rows(rows: Sequence[Row], options: Options, run: str, minutes: float | None) -> Iterator[Outcome]:
    """Measure one row after the other; those that no time is left for say so."""
    from benchmarks.frame.measure import Outcome, measure

    started, known = time.monotonic(), dict[str, str]()
    for number, row in enumerate(rows, start=1):
        if minutes is not None and time.monotonic() - started > 60.0 * minutes:
            remedy = f"run it by name: python -m benchmarks {row.name}"
            yield Outcome(row, reason=f"the {minutes:g} minutes were over; {remedy}")
            continue
        print(f"[{number}/{len(rows)}] {row.name} …", end=" ", file=sys.stderr, flush=True)
        outcome = measure(row, options, run, known)
        said = outcome.reason or (f"ratio {outcome.ratio.median:.2f}" if outcome.ratio is not None else "measured")
        print(f"{said} ({outcome.seconds:.0f} s)", file=sys.stderr, flush=True)
        yield outcome


def check(results: dict[str, Any]) -> int:
    """Print what fell below the baselines; the exit status."""
    from benchmarks.frame import baselines

    kept = baselines.load()
    for line in baselines.unchecked(results, kept):
        print(f"not checked: {line}")
    faults = baselines.faults(results, kept)
    for line in faults:
        print(f"BELOW THE BASELINE: {line}" if "baseline" in line else f"FAILED: {line}")
    print("no ratio fell by more than 15%" if not faults else f"{len(faults)} rows at fault")
    return 1 if faults else 0


def measure_and_report(rows: Sequence[Row], arguments: argparse.Namespace) -> int:
    """Run the rows, print the table, write the file; the exit status."""
    import torch

    from benchmarks.frame import baselines, floors, machine, results
    from benchmarks.frame.row import Options

    torch.set_num_threads(arguments.threads)
    options = Options(full=arguments.full, threads=arguments.threads, rounds=arguments.rounds)
    begun = datetime.now(UTC)
    run = f"{begun:%Y-%m-%d-%H%M}-{os.getpid()}"
    facts = machine.facts(arguments.threads)
    speed = floors.rates()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    path = arguments.output or RESULTS / f"{begun:%Y-%m-%d-%H%M}.json"
    head = {"date": begun.isoformat(timespec="seconds"), "command": command, "full": options.full}
    outcomes: list[Outcome] = []
    for outcome in run_rows(rows, options, run, arguments.minutes):
        outcomes.append(outcome)
        facts["load_at_end"] = [round(value, 2) for value in os.getloadavg()]
        results.write(path, run, {**head, "machine": facts, "speed": speed}, outcomes)  # kept if the run is broken off
    print(results.table(outcomes))
    shown = ", ".join(f"{name} {value:.4g}" for name, value in speed.items())
    where = f"{facts['processor']} ({facts['kind']}), {facts['threads']} thread(s), load {facts['load']}"
    print(f"\n{where}; {shown}\n{path}")
    written = results.read(path)
    if arguments.keep:
        changed = baselines.updated(written, baselines.load())
        baselines.FILE.write_text(json.dumps(changed, indent=1) + "\n", encoding="utf-8")
    if arguments.check:
        return check(written)
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command line; returns the exit status."""
    arguments = make_parser().parse_args(words)
    # Before PyTorch is loaded: loops that are stepped have threads of their own, which take their number from here.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(arguments.threads)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if (file := arguments.check_file or arguments.show) is not None:
        from benchmarks.frame.results import ResultsError, read, short_table

        try:
            content = read(file)
        except ResultsError as error:
            raise SystemExit(str(error)) from None
        if arguments.check_file is not None:
            return check(content)
        print(short_table(content))
        return 0
    from benchmarks.rows import ROWS

    if arguments.list:
        show_list(chosen(ROWS, arguments.names or ["*"]))
        return 0
    return measure_and_report(chosen(ROWS, arguments.names), arguments)


if __name__ == "__main__":
    sys.exit(main())
