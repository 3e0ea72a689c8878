"""Compare evaluated runs by method, with 95% intervals: tables, claims, plots and samples as HTML, Markdown, JSON."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_gfn.reports.comparison import Comparison

USUAL_WIDTH = 100  # letters a line where the output is no terminal


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn compare``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn compare", description=__doc__)
    parser.add_argument(
        "runs",
        metavar="[NAME=]RUN",
        nargs="*",
        help="run folder that has been evaluated, or a folder with such runs below it; NAME renames their method",
    )
    parser.add_argument("--mlflow", metavar="EXPERIMENT", nargs="+", default=[], help="also the runs of an experiment")
    parser.add_argument(
        "--filter",
        metavar="EXPRESSION",
        default="",
        help="of these runs those alone that MLflow's search finds, such as \"tags.method = 'subtb' and "
        'metrics.`test/solve_rate` > 0.5" (in single quotes for the shell, or with \\` for each backtick)',
    )
    parser.add_argument(
        "--tracking_uri", metavar="URI", help="MLflow store (default: $MLFLOW_TRACKING_URI or mlflow.db)"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="folder for comparison.html, .md, .json and .png"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="method to compare the others with (default: the first run's)"
    )
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="which results (default: test)")
    parser.add_argument("--temperature", metavar="T", type=float, help="temperature of the grid (default: the first)")
    parser.add_argument(
        "--own_decoding",
        action="store_true",
        help="methods may differ in how they decode (temperature, top-k, top-p, beams), with equally many completions",
    )
    parser.add_argument(
        "--primary",
        metavar="METRIC",
        nargs="+",
        help="metrics whose p-values are corrected together (default: the headline metrics)",
    )
    parser.add_argument(
        "--margin",
        metavar="M",
        type=float,
        default=0.05,
        help="solve rates are equal if the 90%% interval of their difference lies within ±M (default: 0.05)",
    )
    parser.add_argument(
        "--min_difference",
        metavar="D",
        type=float,
        default=0.0,
        help="differences of distinct-correct below D are said not to count (default: 0)",
    )
    parser.add_argument("--resamples", metavar="B", type=int, default=10_000, help="bootstrap resamples (10000)")
    parser.add_argument("--no-html", action="store_true", help="write no comparison.html")
    parser.add_argument("--no-figure", action="store_true", help="write no comparison.png")
    return parser


def named_folder(text: str) -> Path | tuple[str, Path]:
    """``NAME=FOLDER`` as a pair, anything else as a folder."""
    name, separator, folder = text.partition("=")
    return (name, Path(folder)) if separator and name and "/" not in name else Path(text)


def main(args: list[str]) -> int:
    """Run the command; 0 if the comparison was written, 1 if the runs cannot be compared."""
    options = build_parser().parse_args(args)
    if not options.runs and not options.mlflow:
        print("error: give run folders, or --mlflow EXPERIMENT", file=sys.stderr)
        return 2
    if options.filter and not options.mlflow:
        print("error: --filter chooses among the runs of --mlflow EXPERIMENT: give that, too", file=sys.stderr)
        return 2
    try:
        comparison = compare(options)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from lightning_gfn.reports.rendering.console import console_summary

    print(console_summary(comparison, shutil.get_terminal_size((USUAL_WIDTH, 24)).columns))
    pages = ["comparison.md", *([] if options.no_html else ["comparison.html"])]
    print(f"\nwritten to {options.output}; all tables are in {' and '.join(pages)}")
    return 0


def compare(options: argparse.Namespace) -> Comparison:
    """Fetch the runs and write the comparison.

    Raises:
        FileNotFoundError: a run has not been evaluated, or an experiment does not exist.
        ValueError: the runs are not comparable.
    """
    from lightning_gfn.reports.comparison import Options
    from lightning_gfn.reports.files import write_comparison

    folders = [named_folder(text) for text in options.runs]
    if options.mlflow:
        from lightning_gfn.tracking.mlflow_runs import download_runs

        for experiment in options.mlflow:
            folders += download_runs(
                experiment,
                options.output / "mlflow_runs",
                uri=options.tracking_uri,
                stage=options.stage,
                chosen=options.filter,
            )
    chosen = Options(
        baseline=options.baseline,
        stage=options.stage,
        primary=tuple(options.primary) if options.primary is not None else None,
        margin=options.margin,
        min_difference=options.min_difference,
        num_resamples=options.resamples,
        own_decoding=options.own_decoding,
    )
    return write_comparison(
        folders,
        options.output,
        options=chosen,
        temperature=options.temperature,
        figure=not options.no_figure,
        html=not options.no_html,
    )
