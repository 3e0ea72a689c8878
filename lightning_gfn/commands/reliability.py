"""Draw how well calibrated an evaluated reward model is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn reliability``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn reliability", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a reward model that has been evaluated")
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="which results (default: test)")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="PNG to write (default: RUN/results/STAGE_reliability.png)"
    )
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if the plot was written, 1 if there is nothing to plot."""
    options = build_parser().parse_args(args)
    from lightning_gfn.reports.reliability import draw_reliability, load_reliability, summary

    output = options.output
    if output is None:
        output = options.run / "results" / f"{options.stage}_reliability.png"
    try:
        content = load_reliability(options.run, options.stage)
        draw_reliability(content, output)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(content))
    print(f"written to {output}")
    return 0
