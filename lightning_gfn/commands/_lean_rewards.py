"""Draw whether partial rewards tell attempts that become proofs from those that do not."""

from __future__ import annotations

import argparse
from pathlib import Path

from lightning_gfn.commands._plots import add_plot_options, draw


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn lean rewards``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn lean rewards", description=__doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders of evaluated tactic models")
    parser.add_argument(
        "--temperature", type=float, help="which temperature of the runs (default: the first one of each run's grid)"
    )
    add_plot_options(parser, "partial_rewards")
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if the plot was written, 1 if there is nothing to plot."""
    options = build_parser().parse_args(args)

    def make(output: Path) -> list[str]:
        from lightning_gfn.reports.partial_rewards import draw_separation, load_separation, report

        found = load_separation(options.runs, options.stage, options.temperature)
        draw_separation(found, output)
        return report(found)

    return draw(options, options.runs[0], "partial_rewards", make)
