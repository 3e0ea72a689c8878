"""The package ``datamodules`` is ours: it is found before another of that common name, or the error says why not."""

from __future__ import annotations

import sys
from importlib import invalidate_caches
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "lightning-gfn"
OURS = Path(__file__).resolve().parents[2] / "datamodules"


class DatamodulesError(ImportError):
    """``datamodules`` is not ours, or not ours alone; the message says what to do."""


def found_datamodules() -> Path | None:
    """The folder from which ``import datamodules`` would load, or has loaded; None if there is none."""
    spec = find_spec("datamodules")
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin).resolve().parent
    parts = list(spec.submodule_search_locations or [])  # a folder without an __init__.py
    return Path(parts[0]).resolve() if parts else None


def prefer_our_datamodules() -> str | None:
    """Put the folder of our ``datamodules`` before that of another one on the search path.

    A search path reaches the processes that this one starts, which a change of ``sys.modules`` would not.

    Returns:
        a sentence for the user if another package was passed over, else None.
    """
    other = found_datamodules()
    if "datamodules" in sys.modules or other in (None, OURS):
        return None
    places = [number for number, entry in enumerate(sys.path) if Path(entry, "datamodules").resolve() == other]
    sys.path.insert(min(places, default=0), str(OURS.parent))
    invalidate_caches()
    return f"{other} is passed over: class paths that begin with 'datamodules.' name those of {DISTRIBUTION}"


def holds_datamodules(distribution: Distribution) -> bool:
    """True if an installed distribution says that a package ``datamodules`` is its own.

    ``importlib.metadata.packages_distributions`` says the same of every package, in a third of a second.
    """
    declared = distribution.read_text("top_level.txt")
    if declared is not None:
        return "datamodules" in declared.split()
    record = distribution.read_text("RECORD") or ""
    return record.startswith("datamodules/") or "\ndatamodules/" in record


def check_datamodules() -> None:
    """Make sure that ``datamodules`` is the package that came with this one.

    Raises:
        DatamodulesError: another package of that common name would be imported; names it and the remedy.
    """
    origin = found_datamodules()
    if origin != OURS:
        found = f"{origin} would be imported" if origin is not None else "there is none"
        raise DatamodulesError(
            f"the package 'datamodules' must be the one beside lightning_gfn ({OURS}), but {found}: "
            "remove the other one, or install lightning-gfn in a virtual environment of its own"
        )
    names = {found.metadata["Name"] for found in distributions() if holds_datamodules(found)}
    owners = sorted(names - {DISTRIBUTION})
    if owners:
        raise DatamodulesError(
            f"the package 'datamodules' belongs to lightning-gfn, but {', '.join(owners)} has one too: uninstall that"
        )
