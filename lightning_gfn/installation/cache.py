"""The cache folder of everything that the commands ``install`` fetch."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "LIGHTNING_GFN_CACHE"


def cache_root() -> Path:
    """The cache folder: the one that ``LIGHTNING_GFN_CACHE`` names, or ``~/.cache/lightning-gfn``."""
    root = os.environ.get(VARIABLE)
    return Path(root).expanduser() if root else Path.home() / ".cache" / "lightning-gfn"
