"""Read the JSON files of a run; errors name file and line, and say what makes them again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        FileNotFoundError: there is no such file; ``remedy`` says what makes it.
        ValueError: the file is not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); evaluate the run again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}; evaluate the run again")
    return value


def json_rows(path: Path, remedy: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of each line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: malformed row ({error!r}); {remedy}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: malformed row (no JSON object); {remedy}")
            yield number, row
