"""Build preferences (right against wrong, same problem) from predicted samples; or sample, build and train on them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from lightning_gfn.studies.pipeline import add_options, make_and_train, parse, run_command
from lightning_gfn.studies.samples import Sample, different, read_samples, write_rows, write_summary

Row = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn pairs``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn pairs", description=__doc__)
    add_options(parser)
    group = parser.add_argument_group("preferences")
    group.add_argument(
        "--pairs_per_problem",
        metavar="N",
        type=int,
        default=4,
        help="the most pairs of a problem; with --unpaired the most right and the most wrong completions (default: 4)",
    )
    group.add_argument("--unpaired", action="store_true", help="labelled single completions instead, for KTO")
    group.add_argument("--pair_seed", type=int, default=0, help="key of the choice (default: 0)")
    return parser


def paired(samples: Sequence[Sample], most: int, seed: int) -> Iterator[Row]:
    """At most so many different pairs of a right and a wrong sample, all samples used about equally often."""
    right, wrong = sides(samples, seed)
    used = 0
    for shift in range(max(len(right), len(wrong))):
        # Diagonals of the table of all pairs: each takes every sample of the smaller side once.
        for i in range(min(len(right), len(wrong))):
            if used == most:
                return
            used += 1
            large = (i + shift) % max(len(right), len(wrong))
            chosen, rejected = (right[large], wrong[i]) if len(right) > len(wrong) else (right[i], wrong[large])
            yield {
                **chosen.origin,
                "chosen": chosen.completion,
                "rejected": rejected.completion,
            }


def labelled(samples: Sequence[Sample], most: int, seed: int) -> Iterator[Row]:
    """At most so many right and so many wrong samples."""
    for side in sides(samples, seed):
        for sample in side[:most]:
            yield {
                **sample.origin,
                "completion": sample.completion,
                "label": sample.correct,
            }


def sides(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """The right and the wrong samples, each text once, in an order keyed by (seed, problem id).

    A right one that the maximum length cut is left out.
    """
    kept = different(samples)
    right = [sample for sample in kept if sample.correct and not sample.truncated]
    wrong = [sample for sample in kept if not sample.correct]
    random = Random(f"{seed}/{samples[0].group}")
    random.shuffle(right)
    random.shuffle(wrong)
    return right, wrong


def build_file(predictions: Path, output: Path, options: argparse.Namespace) -> None:
    """From predictions to a file that ``datamodules.preference.PreferenceDataModule`` reads, with a summary beside it.

    Raises:
        ValueError: no problem has samples to choose from.
    """
    samples = read_samples(predictions, flip_probability=options.flip_probability, flip_seed=options.flip_seed)
    make = labelled if options.unpaired else paired
    groups = {id_: list(make(group, options.pairs_per_problem, options.pair_seed)) for id_, group in samples.items()}
    rows = [row for group in groups.values() for row in group]
    if not rows:
        raise ValueError(f"{predictions}: no problem has both a right and a wrong sample; nothing was written")
    write_rows(output, rows)
    summary: Row = {
        "problems": len(groups),
        "problems_kept": sum(map(bool, groups.values())),
        "samples": sum(map(len, samples.values())),
        "rows": len(rows),
    }
    if options.unpaired:
        desirable = sum(row["label"] for row in rows)
        summary |= {"desirable": desirable, "undesirable": len(rows) - desirable}
    write_summary(output, summary)


def work(args: list[str]) -> None:
    """Build, or sample, build and train.

    Raises:
        ValueError: options or files cannot be used.
        StageFailed: a stage failed.
    """
    options, overrides = parse(build_parser(), args)
    if options.pairs_per_problem < 1:
        raise ValueError(f"--pairs_per_problem is {options.pairs_per_problem}, expected at least 1")
    make_and_train("pairs", options, overrides, build_file, "preferences.jsonl")


def main(args: list[str]) -> int:
    """Run the command; 0 if everything was done."""
    return run_command("pairs", work, args)
