"""Whole files or none: written beside their target, forced to the disk, then renamed."""

from __future__ import annotations

import os
from pathlib import Path


class CheckpointError(ValueError):
    """A checkpoint that is damaged or does not fit; the message says what is wrong and what to do."""


def replace_text(path: Path, text: str) -> Path:
    """Write a text file: readers never see half of it, and a kill or a power cut leaves the former one or this one.

    Args:
        path: the file; its folder is made if missing.
        text: UTF-8 content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def put_in_place(partial: Path, path: Path) -> None:
    """Give a file that is on the disk its name, and force the name to the disk too."""
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk, where the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # network file systems need not know it
        pass
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Force every file of a folder, and its names, to the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    sync_folder(folder)
