"""Where a Python package index keeps a file of a distribution (the simple API: PEP 503 and PEP 691)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit, urlunsplit

from lightning_gfn.installation.download import InstallationError, open_url, without_credentials

PUBLIC_INDEX = "https://pypi.org/simple"
VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


def index_address() -> str:
    """Address of the package index: ``PIP_INDEX_URL``, uv's variables, pip's own setting, or PyPI."""
    address = next((os.environ[name] for name in VARIABLES if os.environ.get(name)), None) or _pip_setting()
    return (address or PUBLIC_INDEX).rstrip("/") + "/"


def _pip_setting() -> str | None:
    """``index-url`` of pip's configuration files; None if there is no pip or no such setting."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^(?:global|install|download)\.index-url='(.*)'$", done.stdout, re.MULTILINE)
    return found[1] if found else None


class _Links(HTMLParser):
    """The addresses that a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the target of a link."""
        target = dict(attrs).get("href")
        if tag == "a" and target:
            self.found.append(target)


def _links(content: str, is_json: bool) -> list[str]:
    """Addresses of the files on a project's page."""
    if is_json:
        return [str(file["url"]) for file in json.loads(content)["files"]]
    page = _Links()
    page.feed(content)
    return page.found


def with_credentials(url: str, index: str) -> str:
    """The address with the index's user name and password, if it lies on the same host."""
    parts, home = urlsplit(url), urlsplit(index)
    if "@" in home.netloc and parts.netloc == home.netloc.rpartition("@")[2]:
        parts = parts._replace(netloc=home.netloc)
    return urlunsplit(parts)


def file_address(distribution: str, filename: str, remedy: str) -> str:
    """Address of one file of a distribution.

    Args:
        distribution: its name on the index.
        filename: of the wheel.
        remedy: what the error message tells the reader to do.

    Raises:
        InstallationError: the index cannot be reached or does not have the file.

    Source: PEP 503, PEP 691.
    """
    index = index_address()
    project = f"{index}{re.sub(r'[-_.]+', '-', distribution).lower()}/"
    shown = without_credentials(project)
    try:
        with open_url(project, {"Accept": ACCEPT}) as response:
            is_json = "json" in response.headers.get_content_type()
            content, base = response.read().decode("utf-8"), response.url
    except OSError as error:
        raise InstallationError(f"the package index did not answer: {shown} ({error}). {remedy}") from error
    try:
        links = [urljoin(base, link).partition("#")[0] for link in _links(content, is_json)]
    except (ValueError, KeyError, TypeError) as error:
        raise InstallationError(f"{shown} is no page of a package index ({error}). {remedy}") from error
    for link in links:
        if link.rpartition("/")[2] == filename:
            return with_credentials(link, index)
    raise InstallationError(f"the package index has no {filename}: {shown} lists {len(links)} files. {remedy}")
