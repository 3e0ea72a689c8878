"""Calibrate classes of solutions: how well each class map finds the known paths of a data set's problems."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lightning_gfn.commands.asking.classes import build, find_classes
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.solution_classes.calibration import PairCounts, pair_counts
from lightning_gfn.solution_classes.known_paths import paths_of
from lightning_gfn.solution_classes.short_names import classes_named

if TYPE_CHECKING:
    from lightning_gfn.types import Problem

USUAL_MAPS = (
    "equations,order=sequence",
    "equations",
    "skeleton",
    *(f"rouge,threshold={threshold}" for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)),
    "rouge,threshold=0.7,linkage=leaders",
)
WHOLE = "path"


@dataclass(frozen=True)
class Labelled:
    """Solutions of a problem with the labels of their paths.

    Args:
        problem: that they solve.
        texts: the solutions.
        paths: label of each.
    """

    problem: Problem
    texts: Sequence[str]
    paths: Sequence[str]

    def truth(self, part: int | None) -> list[str]:
        """The labels, or one part of each: ``steps`` and ``forward`` are those of ``steps/forward``."""
        return list(self.paths) if part is None else [path.split("/")[part] for path in self.paths]


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn classes``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn classes", description=__doc__)
    parser.add_argument(
        "--data",
        metavar="CLASS|YAML",
        required=True,
        help="data set whose problems know their solutions: a class path, or a YAML with class_path and init_args, or "
        "with these below data",
    )
    parser.add_argument("--data_args", metavar="YAML", default="{}", help="further arguments: '{levels: {1: 1.0}}'")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    parser.add_argument("--num_problems", metavar="N", type=int, help="the first N problems (default: all)")
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        type=Path,
        help="predictions.jsonl: the samples that are known solutions count, as often as they were drawn (default: "
        "every known solution once)",
    )
    parser.add_argument(
        "--map",
        metavar="NAME[,KEY=VALUE…]",
        action="append",
        help="a class map, such as rouge,threshold=0.8 or embedding,model=sentence-minilm,threshold=0.9; repeat it "
        "(default: equations, skeletons and ROUGE-L from .5 to .9)",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="also write the table as JSON")
    return parser


def known_problems(options: argparse.Namespace) -> list[Problem]:
    """The problems whose solutions are known.

    Raises:
        ValueError: the data set cannot be built, or knows no solutions.
    """
    import yaml

    find_classes()
    node: Any = {"class_path": options.data}
    if options.data.endswith((".yaml", ".yml")):
        node = yaml.safe_load(Path(options.data).read_text(encoding="utf-8"))
        node = node.get("data", node) if isinstance(node, Mapping) else {}
        if not isinstance(node, Mapping) or "class_path" not in node:
            raise ValueError(f"{options.data} names no data set: it needs class_path, at its top or below data")
    arguments = {**(node.get("init_args") or {}), **yaml.safe_load(options.data_args)}
    data = build({"class_path": node["class_path"], "init_args": arguments})
    found: list[Problem] = [problem for problem in data.problems(options.split) if problem.solution_set]
    if not found:
        raise ValueError(f"--data {options.data}: no problem of the {options.split} split knows its solutions")
    return found[: options.num_problems]


def labelled(problems: Sequence[Problem], predictions: Path | None) -> list[Labelled]:
    """The solutions of each problem with their paths: known ones once, or samples that are known ones.

    Raises:
        ValueError: no sample is a known solution.
    """
    if predictions is None:
        known = {problem.id: problem.solution_set or {} for problem in problems}
        return [Labelled(problem, list(known[problem.id]), list(known[problem.id].values())) for problem in problems]
    from lightning_gfn.studies.samples import read_samples

    samples = read_samples(predictions)
    found = []
    for problem in problems:
        texts = [sample.completion for sample in samples.get(problem.id, ()) if sample.correct]
        paths = paths_of(texts, problem.solution_set or {})
        pairs = [(text, path) for text, path in zip(texts, paths, strict=True) if path is not None]
        if pairs:
            found.append(Labelled(problem, [text for text, _ in pairs], [path for _, path in pairs]))
    if not found:
        raise ValueError(f"{predictions}: no sample is a known solution of --data; give the data that were sampled")
    return found


def parts_of(solutions: Sequence[Labelled]) -> list[int | None]:
    """What is true: whole labels, and each part where all labels have equally many of two or more."""
    counts = {path.count("/") + 1 for one in solutions for path in one.paths}
    return [None, *(range(max(counts)) if len(counts) == 1 and max(counts) > 1 else ())]


def calibrated(classes: SolutionClasses, solutions: Sequence[Labelled]) -> list[dict[str, Any]]:
    """A row for each truth: pair precision, recall and wrongly joined pairs of all problems, means over problems."""
    found = [classes.labels(one.problem, one.texts) for one in solutions]
    rows = []
    for part in parts_of(solutions):
        truths = [one.truth(part) for one in solutions]
        counts = [pair_counts(labels, truth) for labels, truth in zip(found, truths, strict=True)]
        total = sum(counts, PairCounts())
        several = [each for each, truth in zip(counts, truths, strict=True) if len(truth) > 1]
        figures = {
            "pair_precision": total.precision,
            "pair_recall": total.recall,
            "wrongly_joined": total.wrongly_joined,
            "adjusted_rand_index": fmean(each.adjusted_rand_index for each in several) if several else math.nan,
            "classes_found": fmean(len(set(labels) - {None}) + labels.count(None) for labels in found),
            "classes_true": fmean(len(set(truth)) for truth in truths),
        }
        known = {name: None if math.isnan(value) else value for name, value in figures.items()}
        rows.append({"truth": WHOLE if part is None else f"part {part + 1}", "classes": classes.meaning, **known})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table; ``–`` where a figure is not defined."""
    names = list(rows[0])
    lines = [[name.replace("_", " ") for name in names], ["---", "---", *("--:" for _ in names[2:])]]
    lines += [["–" if v is None else v if isinstance(v, str) else f"{v:.3f}" for v in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(args: list[str]) -> int:
    """Run the command; 0 if the table was made, 1 if something cannot be used."""
    options = build_parser().parse_args(args)
    try:
        maps = [classes_named(text) for text in options.map or USUAL_MAPS]
        solutions = labelled(known_problems(options), options.predictions)
        rows = [row for classes in maps for row in calibrated(classes, solutions)]
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows.sort(key=lambda row: (row["truth"] != WHOLE, row["truth"]))
    count = sum(len(one.texts) for one in solutions)
    print(f"{count} solutions of {len(solutions)} problems\n\n{table(rows)}")
    if options.output is not None:
        content = {"problems": len(solutions), "solutions": count, "rows": rows}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0
