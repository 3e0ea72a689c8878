"""Rows of JSON files, folders and hub data sets, each with the place that it was read from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

SUFFIXES = (".jsonl", ".json")
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
"""Names that files, folders and hub splits go by, for each of our splits."""


class BadRow(ValueError):
    """A row that cannot be used.

    Args:
        where: file and line.
        field: the column at fault, or None if the row as a whole is.
        reason: what is wrong with it.
    """

    def __init__(self, where: str, field: str | None, reason: str) -> None:
        super().__init__(f"{where}: " + (f"field {field!r}: " if field is not None else "") + reason)


@dataclass(frozen=True)
class Row:
    """One record.

    Args:
        where: file and line, for messages.
        key: name of the row within its split, the same whichever rows are skipped.
        fields: its columns.
    """

    where: str
    key: str
    fields: Mapping[str, Any]


def written_number(value: float) -> str | None:
    """A number of a JSON file in digits, never as ``1e-05``; None if it is not finite.

    Args:
        value: a whole number or a float; the shortest decimal that reads as the float is written.
    """
    return format(Decimal(str(value)), "f") if math.isfinite(value) else None


def looks_local(path: str) -> bool:
    """Whether a source is meant as a file or folder rather than as the name of a hub data set."""
    return Path(path).expanduser().exists() or path.endswith(SUFFIXES) or path.startswith((".", "/", "~"))


def require_local(path: str, option: str) -> Path:
    """The file or folder of a path.

    Raises:
        FileNotFoundError: it does not exist; the message names the option to change.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise FileNotFoundError(
            f"data.{option}: {path} does not exist (looked in {Path.cwd()}). Give an existing .jsonl "
            f"or .json file or folder, or the name of "
            "a data set on the Hugging Face hub."
        )
    return found


def find_split(folder: Path, split: str) -> Path | None:
    """The file ``<split>.jsonl``/``.json`` or the folder ``<split>`` within a folder; None if there is none."""
    for name in SPLIT_NAMES[split]:
        for candidate in (*(folder / f"{name}{suffix}" for suffix in SUFFIXES), folder / name):
            if candidate.exists():
                return candidate
    return None


def data_files(path: Path) -> list[Path]:
    """The JSON files of a file (itself) or a folder (all below it, in order of their paths)."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a JSON-lines file, of a JSON array, or of a folder of such files and of one-object files.

    A line that is no JSON object becomes a ``BadRow``, which the caller raises or counts.

    Raises:
        BadRow: a file is broken beyond a single row (a syntax error within an array, wrong encoding of a whole file).
    """
    for file in data_files(path):
        stem = "" if path.is_file() else file.relative_to(path).with_suffix("").as_posix()
        for number, (line, value) in enumerate(_values(file)):
            where = f"{file}:{line}"
            if isinstance(value, BadRow):
                yield value
            elif isinstance(value, dict):
                yield Row(where, _key(stem, number), value)
            else:
                yield BadRow(where, None, f"expected a JSON object, found {type(value).__name__}")


def _key(stem: str, number: int) -> str:
    """Name of a row: its number in a single file; in a folder the file, and the number after its first row."""
    if not stem:
        return str(number)
    return f"{stem}:{number}" if number else stem


def _values(file: Path) -> Iterator[tuple[int, Any]]:
    """(line, value) of each record of a file; a value is a ``BadRow`` where one line alone is broken."""
    if file.suffix == ".json":
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadRow(f"{file}:1", None, f"not UTF-8: {error}") from error
        start = text.lstrip()[:1]
        if start == "[":
            yield from _array_values(file, text)
            return
        if start == "{":
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                pass  # several objects: JSON lines under the suffix .json
            else:
                yield 1, value
                return
    yield from _line_values(file)


def _line_values(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as stream:
        for line, content in enumerate(stream, start=1):
            if not content.strip():
                continue
            try:
                yield line, json.loads(content.decode("utf-8-sig" if line == 1 else "utf-8"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                yield line, BadRow(f"{file}:{line}", None, f"not a line of JSON: {error}")


def _array_values(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array with the line that each begins in."""
    decoder = json.JSONDecoder()
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        position = _skip_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
            position = _skip_space(text, position)
            if text[position : position + 1] not in (",", "]"):
                raise json.JSONDecodeError("expected ',' or ']' after an element", text, position)
        except json.JSONDecodeError as error:
            raise BadRow(
                f"{file}:{error.lineno}",
                None,
                f"the JSON array is broken here ({error.msg}), so rows after it cannot be read",
            ) from error
        yield line, value
        position += text[position] == ","


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def load_hub(name: str, config: str | None) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """The splits of a data set on the Hugging Face hub (downloaded once, then read from its cache).

    Raises:
        FileNotFoundError: it cannot be had.
    """
    import datasets

    try:
        return datasets.load_dataset(name, config)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"data.path: {name!r} is neither a local file or folder nor a data set that the Hugging Face hub gives out "
            f"({type(error).__name__}: {error}). Check the name and data.hub_config, log in if it is "
            f"gated, or give a local path."
        ) from error


def hub_rows(name: str, split: str, records: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """The rows of one hub split."""
    for index, record in enumerate(records):
        yield Row(f"{name}[{split}]:{index + 1}", str(index), record)
