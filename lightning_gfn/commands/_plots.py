"""Shared parts of commands that draw one plot of evaluated runs: options, errors, and the plot's place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def add_plot_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options that say which results are drawn, and where the plot goes.

    Args:
        parser: is added to.
        name: of the plot: ``RUN/results/STAGE_<name>.png`` unless another file is given.
    """
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="which results (default: test)")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help=f"PNG to write (default: RUN/results/STAGE_{name}.png)"
    )


def draw(options: argparse.Namespace, run: Path, name: str, make: Callable[[Path], Sequence[str]]) -> int:
    """Make the plot and print what it shows.

    Args:
        options: those of ``add_plot_options``.
        run: the run folder that the plot goes to unless the options name a file.
        name: of the plot.
        make: writes the file and returns the lines to print.

    Returns:
        0 if the plot was written, 1 if there is nothing to plot.
    """
    output = options.output if options.output is not None else run / "results" / f"{options.stage}_{name}.png"
    try:
        lines = make(output)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*lines, f"written to {output}", sep="\n")
    return 0
