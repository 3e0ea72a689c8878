"""Where rows are: a file, a folder, a wildcard pattern, or the shards of a split."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.files.containers import SUFFIXES, TEXT, suffix_of

WILDCARDS = frozenset("*?[")
SHARD = re.compile(r"(?P<name>.*)-(?P<number>\d+)-of-(?P<total>\d+)")
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
"""Names that files, folders and hub splits go by, for each of our splits."""


def is_pattern(path: str | Path) -> bool:
    """Whether a path is a wildcard pattern rather than the name of something that exists."""
    return bool(WILDCARDS & set(str(path))) and not Path(path).exists()


def looks_local(path: str) -> bool:
    """Whether a source is meant as a file or folder rather than as the name of a hub data set."""
    local = Path(path).expanduser().exists() or path.endswith((*SUFFIXES, TEXT)) or path.startswith((".", "/", "~"))
    return local or is_pattern(path)


def require_local(path: str, option: str) -> Path:
    """The file, folder or wildcard pattern of a path.

    Raises:
        FileNotFoundError: it does not exist; the message names the option to change.
    """
    found = Path(path).expanduser()
    if not found.exists() and not (is_pattern(found) and data_files(found)):
        raise FileNotFoundError(
            f"data.{option}: {path} does not exist (looked in {Path.cwd()}). Give a file "
            f"({', '.join((*SUFFIXES, TEXT))}), a folder, a pattern such as 'data/part-*.jsonl', or the name of a "
            "data set on the Hugging Face hub."
        )
    return found


def find_split(folder: Path, split: str) -> Path | None:
    """The rows of a split within a folder, or within its sub-folder ``data``; None if there are none.

    They are a file ``<split>.<suffix>``, a folder ``<split>``, or shards such as ``<split>-00000-of-00002.<suffix>``,
    for which a wildcard pattern is returned.
    """
    for place in (folder, folder / "data"):
        for name in SPLIT_NAMES[split]:
            for candidate in (*(place / f"{name}{suffix}" for suffix in (*SUFFIXES, TEXT)), place / name):
                if candidate.exists():
                    return candidate
            for suffix in SUFFIXES:
                shards = f"{glob.escape(str(place))}/{name}[-_.][0-9]*{suffix}"
                if glob.glob(shards):
                    return Path(shards)
    return None


def data_files(path: Path) -> list[Path]:
    """The files of a file (itself), a folder (all below it) or a pattern, in order of their paths.

    Raises:
        FileNotFoundError: shards are missing; names the first.
    """
    if path.is_file():
        return [path]
    below = path.rglob("*") if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
    known = {None, TEXT} if path.is_dir() else {None}  # a folder may hold notes
    files = sorted(file for file in below if file.is_file() and suffix_of(file) not in known)
    check_shards(files)
    return files


def check_shards(files: Sequence[Path]) -> None:
    """Refuse a set of shards that is not whole.

    Raises:
        FileNotFoundError: names the first that is missing.
    """
    there = set(files)
    for file in files:
        found = SHARD.fullmatch(stem_of(file))
        if found is None:
            continue
        for number in range(int(found["total"])):
            name = f"{found['name']}-{number:0{len(found['number'])}}-of-{found['total']}{suffix_of(file)}"
            if file.with_name(name) not in there:
                raise FileNotFoundError(
                    f"{file.with_name(name)} is missing: {file.name} is one of {int(found['total'])} shards. Complete "
                    "them, or give one shard alone as the path"
                )


def lone_shard(path: Path) -> str | None:
    """How many shards there are where the path names one of them; None where it does not."""
    found = SHARD.fullmatch(stem_of(path)) if path.is_file() else None
    return found["total"].lstrip("0") if found is not None and int(found["total"]) > 1 else None


def stem_of(file: Path) -> str:
    """The name of a file without the suffix of its container."""
    suffix = suffix_of(file)
    return file.name.removesuffix(suffix) if suffix is not None else file.name


def fixed_part(path: Path) -> Path:
    """The folder that a path is, or of a pattern the part before its first wildcard."""
    if path.is_dir():
        return path
    plain = list(path.parts[:-1])
    first = next((i for i, part in enumerate(plain) if WILDCARDS & set(re.sub(r"\[([*?[])\]", "", part))), len(plain))
    return Path(*(re.sub(r"\[([*?[])\]", r"\1", part) for part in plain[:first]))
