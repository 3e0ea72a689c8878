"""Draw whether partial rewards tell attempts that become proofs from those that do not."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn lean rewards``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn lean rewards", description=__doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders of evaluated tactic models")
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="which results (default: test)")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="PNG to write (default: RUN/results/STAGE_partial_rewards.png)"
    )
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if the plot was written, 1 if there is nothing to plot."""
    options = build_parser().parse_args(args)
    from lightning_gfn.reports.partial_rewards import draw_separation, load_separation, summary

    output = options.output or options.runs[0] / "results" / f"{options.stage}_partial_rewards.png"
    try:
        found = load_separation(options.runs, options.stage)
        draw_separation(found, output)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for kind in ("proved", "unproved"):
        part = found[kind]
        print(f"{kind}: {part['count']} attempts, mean {part['mean']:.3f}, median {part['median']:.3f}")
    print(summary(found))
    print(f"written to {output}")
    return 0
