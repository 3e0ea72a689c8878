"""Read the JSON files of a run; errors name file and line, and say what makes them again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn


class Unusable(ValueError):
    """A value that a file of results cannot hold."""


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and infinities, which JSON has no words for."""
    raise Unusable(f"{name} is no number")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise Unusable(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return value


def parsed(text: bytes | str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is none, as a clause.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(plain, parse_constant=no_constant, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    except RecursionError:
        raise ValueError("not usable JSON (nested too deeply)") from None
    except ValueError as error:
        raise ValueError(f"not usable JSON ({str(error).partition(':')[0]})") from error
    if not isinstance(value, dict):
        raise ValueError(f"no JSON object but {type(value).__name__}")
    return value


def read_bytes(path: Path, remedy: str) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is no such file; ``remedy`` says what makes it.
        ValueError: it cannot be read, or is empty.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    if not content.strip():
        raise ValueError(f"{path} is empty: {remedy}")
    return content


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        FileNotFoundError: there is no such file; ``remedy`` says what makes it.
        ValueError: the file is not a JSON object.
    """
    try:
        return parsed(read_bytes(path, remedy))
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}; {remedy or 'make it again'}") from error


def json_rows(path: Path, remedy: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of each line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a JSON object.
    """
    for number, line in enumerate(read_bytes(path, remedy).removesuffix(b"\n").split(b"\n"), start=1):
        try:
            row = parsed(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}; {remedy}") from error
        yield number, row
