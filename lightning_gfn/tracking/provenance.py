"""Provenance of a run: the state of the source code, and the versions of the packages it uses."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "lightning-gfn",
    "torch",
    "lightning",
    "transformers",
    "peft",
    "torchmetrics",
    "mlflow",
    "numpy",
    "tokenizers",
)


@dataclass(frozen=True)
class GitState:
    """The commit that a run was made from.

    Args:
        revision: full hash of the commit.
        dirty: True if tracked files differed from it.
    """

    revision: str
    dirty: bool


def git_state(folder: Path) -> GitState | None:
    """The commit checked out in the folder; None outside a repository or without git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    revision = git("rev-parse", "HEAD")
    if revision is None:
        return None
    return GitState(revision, bool(git("status", "--porcelain", "--untracked-files=no")))


def source_state() -> GitState | None:
    """The commit of this package's own clone, or else that of the working folder (None if neither is a repository)."""
    state = git_state(Path(__file__).resolve().parent)
    return state if state is not None else git_state(Path.cwd())


def versions() -> dict[str, str]:
    """Version of Python and of every installed package that decides what a run computes."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
