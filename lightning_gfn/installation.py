"""Checks of the installation that a confusing error would otherwise replace."""

from __future__ import annotations

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "lightning-gfn"


def check_datamodules() -> None:
    """Make sure that ``datamodules`` is the package that came with this one.

    Raises:
        ImportError: another package of that common name would be imported; names it and the remedy.
    """
    spec = find_spec("datamodules")
    ours = Path(__file__).resolve().parent.parent / "datamodules"
    origin = Path(spec.origin).resolve().parent if spec is not None and spec.origin is not None else None
    if origin != ours:
        found = f"{origin} would be imported" if origin is not None else "there is none"
        raise ImportError(
            f"the package 'datamodules' must be the one beside lightning_gfn ({ours}), but {found}: "
            "remove the other one, or install lightning-gfn in a virtual environment of its own"
        )
    owners = sorted({name for name in packages_distributions().get("datamodules", []) if name != DISTRIBUTION})
    if owners:
        raise ImportError(
            f"the package 'datamodules' belongs to lightning-gfn, but {', '.join(owners)} has one too: uninstall that"
        )
