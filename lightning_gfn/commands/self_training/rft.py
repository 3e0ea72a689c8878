"""Train on a model's own correct and distinct solutions: filter predicted samples, or sample, filter and train."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.solution_classes.short_names import classes_named
from lightning_gfn.studies.pipeline import add_options, make_and_train, parse, run_command
from lightning_gfn.studies.samples import Filter, Sample, read_samples, write_rows, write_summary


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The options that say which correct samples are kept."""
    group = parser.add_argument_group("filter")
    group.add_argument(
        "--distinct",
        choices=("none", "rouge", "equations"),
        default="equations",
        help="one solution a path: texts with ROUGE-L F1 from the threshold on, or with equal equations, are one path; "
        "equal texts, up to case and white space, always are (default: equations)",
    )
    group.add_argument("--threshold", type=float, default=0.7, help="ROUGE-L F1 of one path (default: 0.7)")
    group.add_argument(
        "--tokenizer",
        choices=("rouge", "unicode"),
        default="rouge",
        help="words of ROUGE-L: ASCII letters and digits, or those of any script (default: rouge)",
    )
    group.add_argument(
        "--classes",
        metavar="NAME[,KEY=VALUE…]",
        help="class-balanced: every class of a problem's solutions counts alike, rarer ones repeated, such as "
        "equations, skeleton or rouge,threshold=0.7; use --distinct none to keep several solutions of a class",
    )
    group.add_argument("--max_per_problem", metavar="K", type=int, help="the most kept of a problem (default: all)")
    group.add_argument(
        "--keep_cut",
        action="store_true",
        help="also keep correct samples that max_new_tokens cut: for answers of a fixed length that fill it",
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn rft``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn rft", description=__doc__)
    add_options(parser)
    add_filter(parser)
    return parser


def filter_of(options: argparse.Namespace) -> Filter:
    """The filter that the options ask for."""
    classes = classes_named(options.classes) if options.classes is not None else None
    return Filter(
        options.distinct, options.threshold, options.max_per_problem, options.tokenizer, classes, options.keep_cut
    )


def keep(samples: Mapping[str, Sequence[Sample]], chosen: Filter) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The completions kept of each problem that has any, and how many were dropped for which reason."""
    dropped: Counter[str] = Counter()
    kept = {id_: texts for id_, group in samples.items() if (texts := chosen(group, dropped))}
    return kept, {
        "problems": len(samples),
        "problems_kept": len(kept),
        "samples": sum(map(len, samples.values())),
        "kept": sum(len(set(texts)) for texts in kept.values()),
        "dropped": dict(dropped),
    }


def write_solutions(path: Path, kept: Mapping[str, Sequence[str]], origins: Mapping[str, Mapping[str, str]]) -> None:
    """Write a file that ``datamodules.samples.SampledSolutions`` reads.

    Args:
        path: of the file.
        kept: completions of each group of samples; where some stand there several times, ``copies`` says how often.
        origins: the columns that name the group's prompt.

    Raises:
        ValueError: nothing was kept.
    """
    if not kept:
        raise ValueError(f"no sample is correct, so there is nothing to train on: {path} was not written")
    write_rows(path, ({**origins[group], **counted(texts)} for group, texts in kept.items()))


def counted(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Each text once, and how often it stands there where that is not once for all."""
    counts = Counter(texts)
    copies = {"copies": list(counts.values())} if max(counts.values()) > 1 else {}
    return {"completions": list(counts), **copies}


def filter_file(predictions: Path, output: Path, options: argparse.Namespace) -> None:
    """From predictions to solutions to train on, with a summary beside them."""
    samples = read_samples(predictions, flip_probability=options.flip_probability, flip_seed=options.flip_seed)
    kept, summary = keep(samples, filter_of(options))
    write_solutions(output, kept, {name: group[0].origin for name, group in samples.items()})
    write_summary(output, summary)


def work(args: list[str]) -> None:
    """Filter, or sample, filter and train."""
    options, overrides = parse(build_parser(), args)
    filter_of(options)
    make_and_train("rft", options, overrides, filter_file, "solutions.jsonl")


def main(args: list[str]) -> int:
    """Run the command; 0 if everything was done."""
    return run_command("rft", work, args)
