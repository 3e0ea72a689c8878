"""Keep the results of a study in one small file, or go on from such a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn archive``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn archive",
        description=__doc__,
        epilog="Kept are results, samples of the evaluation, configurations, metrics and budgets of runs that have "
        "ended; weights and checkpoints are not. After unpacking, study, compare and sync find the runs as if they "
        "had been made here; a stage that needs the weights of another one has to make that one again.",
    )
    commands = parser.add_subparsers(dest="action", required=True, metavar="{pack,unpack}")
    packing = commands.add_parser("pack", help="write the file", description="Write the file.")
    packing.add_argument("folder", metavar="FOLDER", type=Path, help="of a study, or of evaluated runs")
    packing.add_argument("--output", metavar="FILE", type=Path, help="default: FOLDER.tar.xz in this folder")
    unpacking = commands.add_parser("unpack", help="read it", description="Write the runs of such a file to disk.")
    unpacking.add_argument("file", metavar="FILE", type=Path, help="written by pack")
    unpacking.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("runs"), help="the study's folder is made in it (runs)"
    )
    return parser


def main(args: list[str]) -> int:
    """Run the command; 0 if it was done, 2 if the folder or the file does not serve."""
    options = build_parser().parse_args(args)
    from lightning_gfn.tracking.archive import SUFFIX, ArchiveError, pack, unpack

    try:
        if options.action == "pack":
            output = options.output or Path(f"{options.folder.resolve().name}{SUFFIX}")
            runs, size = pack(options.folder, output)
            print(f"{output}: {runs} runs, {size / 1024:.0f} KiB")
        else:
            done = unpack(options.file, options.output)
            print(f"{done.folder}: {len(done.added)} runs added" + f", {len(done.kept)} kept" * bool(done.kept))
    except (ArchiveError, OSError) as error:
        print(f"lightning-gfn archive: {error}", file=sys.stderr)
        return 2
    return 0
