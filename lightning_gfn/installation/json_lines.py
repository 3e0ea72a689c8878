"""JSON-lines files read row by row; errors name file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class JsonLinesError(ValueError):
    """A row that cannot be used; the message names file, line and what is wrong."""


def json_object(line: str, where: str) -> dict[str, Any]:
    """The object that a line holds.

    Args:
        line: of the file.
        where: file and line, for the message.

    Raises:
        JsonLinesError: it is not JSON, or no object.
    """
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise JsonLinesError(f"{where}: not a line of JSON: {error}") from error
    if not isinstance(row, dict):
        raise JsonLinesError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place (``file:line``) and row of each line that is not blank.

    Raises:
        OSError: the file cannot be read.
        JsonLinesError: it is not UTF-8, or a line holds no object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", json_object(line, f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise JsonLinesError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error


def require_fields(row: dict[str, Any], names: Sequence[str], where: str, further: str = "") -> None:
    """Refuse a row that lacks a field.

    Args:
        row: the object.
        names: fields that it must have.
        where: file and line, for the message.
        further: what the message says behind their names.

    Raises:
        JsonLinesError: names the first missing field and all that are needed.
    """
    if missing := [name for name in names if name not in row]:
        raise JsonLinesError(f"{where}: no field {missing[0]!r}; expected {', '.join(names)}{further}")
