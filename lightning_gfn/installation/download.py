"""Files over HTTP, fetched on from where an earlier attempt stopped, and compared with a known hash."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from http.client import HTTPResponse

BLOCK = 1 << 18
ATTEMPTS = 5
FATAL_STATUS = (401, 403, 404, 410)


class InstallationError(RuntimeError):
    """Something cannot be fetched or is damaged; the message says what to do."""


def without_credentials(url: str) -> str:
    """The address as it may be shown: without a user name and password in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open_url(url: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """An open response; a name and password in the address are sent, and ``PIP_CERT`` names further certificates.

    Args:
        url: address, ``http`` or ``https``.
        headers: of the request.

    Raises:
        OSError: there is no answer, or an answer of failure (``urllib.error.HTTPError``).
    """
    import ssl
    from urllib.request import Request, urlopen

    parts = urlsplit(url)
    request = Request(without_credentials(url), headers={"User-Agent": "lightning-gfn", **(headers or {})})
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {b64encode(pair.encode()).decode()}")
    context = ssl.create_default_context()
    extra = os.environ.get("PIP_CERT", "")
    if os.path.isfile(extra):
        context.load_verify_locations(cafile=extra)
    response: HTTPResponse = urlopen(request, timeout=60, context=context)
    return response


def _fetch_rest(url: str, partial: Path, size: int, label: str, say: Callable[[str], None]) -> None:
    """One attempt: append to the partial file what is missing."""
    start = partial.stat().st_size if partial.is_file() else 0
    if start > size:
        partial.unlink()
        start = 0
    if start == size:
        return
    with open_url(url, {"Range": f"bytes={start}-"} if start else None) as response:
        resumed = start > 0 and response.status == 206
        if resumed:
            say(f"{label}: going on at {start / 1e6:.1f} MB")
        done, shown = (start if resumed else 0), time.monotonic()
        with partial.open("ab" if resumed else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                if time.monotonic() - shown > 2:
                    say(f"{label}: {done / 1e6:.1f} of {size / 1e6:.1f} MB")
                    shown = time.monotonic()
    if done < size:
        raise ConnectionError(f"the connection ended after {done:,} of {size:,} bytes")


def fetch(
    url: str, target: Path, *, size: int, label: str, remedy: str, say: Callable[[str], None], pause: float = 2.0
) -> Path:
    """Fetch one file; an interrupted download goes on, also in a later call.

    Args:
        url: its address.
        target: file to write; what is incomplete stands beside it as ``.partial``.
        size: of the file in bytes.
        label: what the lines of progress begin with.
        remedy: what the error message tells the reader to do.
        say: is told the progress.
        pause: seconds between attempts.

    Returns:
        the target.

    Raises:
        InstallationError: the server cannot be reached or does not have the file.
    """
    if target.is_file():
        return target
    partial, shown = target.with_name(target.name + ".partial"), without_credentials(url)
    say(f"{label}: fetching {shown} ({size / 1e6:.1f} MB)")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(url, partial, size, label, say)
            break
        except OSError as error:
            fatal = getattr(error, "code", 0) in FATAL_STATUS or error.errno == errno.ENOSPC
            if attempt == ATTEMPTS or fatal:
                kept = f"What has arrived is kept in {partial}. " if partial.is_file() else ""
                raise InstallationError(f"{shown} could not be fetched ({error}). {kept}{remedy}") from error
            say(f"{label}: {error}; trying again ({attempt + 1} of {ATTEMPTS})")
            time.sleep(pause)
    partial.rename(target)
    return target


def file_hash(file: Path, algorithm: str) -> str:
    """Hash of a file in hexadecimal digits.

    Args:
        file: which.
        algorithm: ``sha256``, ``sha512``, …
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()
