"""Compare evaluated runs by method, with 95% intervals: table, sentences, figure and JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn compare``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn compare", description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder that has been evaluated")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="folder for comparison.json, .md and .png"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="method to compare the others with (default: the first run's)"
    )
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="which results (default: test)")
    parser.add_argument("--temperature", metavar="T", type=float, help="temperature of the grid (default: the first)")
    parser.add_argument("--no-figure", action="store_true", help="write no comparison.png")
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if the comparison was written, 1 if the runs cannot be compared."""
    options = build_parser().parse_args(args)
    from lightning_gfn.reports.files import write_comparison
    from lightning_gfn.reports.markdown import comparison_markdown

    try:
        comparison = write_comparison(
            options.runs,
            options.output,
            baseline=options.baseline,
            stage=options.stage,
            temperature=options.temperature,
            figure=not options.no_figure,
        )
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(comparison_markdown(comparison))
    print(f"written to {options.output}")
    return 0
