"""Draw how well calibrated an evaluated reward model is."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning_gfn.commands._plots import add_plot_options, draw


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn reliability``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn reliability", description=__doc__)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a reward model that has been evaluated")
    add_plot_options(parser, "reliability")
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if the plot was written, 1 if there is nothing to plot."""
    options = build_parser().parse_args(args)

    def make(output: Path) -> list[str]:
        from lightning_gfn.reports.reliability import draw_reliability, load_reliability, summary

        content = load_reliability(options.run, options.stage)
        draw_reliability(content, output)
        return [summary(content)]

    return draw(options, options.run, "reliability", make)
