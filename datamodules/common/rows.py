"""Rows of files, folders and hub data sets, each with the place that it was read from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from datamodules.files.containers import SUFFIXES, BadRecord, BrokenFile, records
from datamodules.files.locations import data_files, fixed_part, stem_of


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


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a file, of a folder of files (also of one-object files), or of the files of a wildcard pattern.

    A record that is no object, or that holds a text that is not UTF-8, becomes a ``BadRow``, which the caller raises or
    counts.

    Raises:
        BadRow: a file is broken beyond a single row (a syntax error within an array, wrong encoding of a whole file).
    """
    files = data_files(path)
    if not files:
        raise BadRow(str(path), None, f"holds no file with rows ({', '.join(SUFFIXES)})")
    for file in files:
        stem = "" if path.is_file() else file.relative_to(fixed_part(path)).with_name(stem_of(file)).as_posix()
        try:
            for number, (line, value) in enumerate(records(file)):
                yield _row(f"{file}:{line}", _key(stem, number), value)
        except BrokenFile as error:
            raise BadRow(f"{file}:{error.line}", None, str(error)) from error


def _row(where: str, key: str, value: Any) -> Row | BadRow:
    if isinstance(value, BadRecord):
        return BadRow(where, None, value.reason)
    if not isinstance(value, dict):
        return BadRow(where, None, f"expected a JSON object, found {type(value).__name__}")
    for field, content in value.items():
        try:
            fault = bad_text(field) or bad_text(content)
        except RecursionError:
            fault = "nested too deeply"
        if fault is not None:
            return BadRow(where, field, fault)
    return Row(where, key, value)


def _key(stem: str, number: int) -> str:
    """Name of a row: its number in a single file; in a folder the file, and the number after its first row."""
    if not stem:
        return str(number)
    return f"{stem}:{number}" if number else stem


def bad_text(value: Any) -> str | None:
    """What is wrong with a text, or with one inside a list or an object, that cannot be written as UTF-8."""
    if isinstance(value, str):
        if value.isascii():
            return None
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"character {error.start} is {value[error.start]!r}, half of a pair: no text in UTF-8"
        return None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for item in inner if (found := bad_text(item)) is not None), None)


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
