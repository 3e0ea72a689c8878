"""Rows of a user's file as problems: read by the data sets that a run would use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_gfn.commands.asking.classes import class_at
from lightning_gfn.commands.asking.columns import Guess, guess

LOOKED_AT = 200
"""Rows that a guess rests on."""
PROBLEM_FILE = "datamodules.files.problem_file.ProblemFile"


def first_rows(path: str, count: int = LOOKED_AT) -> list[Mapping[str, Any]]:
    """The first rows of a file, or of the training file of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or holds no row; names the line.
    """
    read_rows = class_at("datamodules.common.rows.read_rows")
    bad_row = class_at("datamodules.common.rows.BadRow")
    rows = list(islice(read_rows(training_file(path)), count))
    good = [row.fields for row in rows if not isinstance(row, bad_row)]
    if not good:
        raise rows[0] if rows else ValueError(f"{path} holds no row")
    return good


def training_file(path: str) -> Path:
    """Where the training rows of a path are.

    Raises:
        FileNotFoundError: nowhere.
    """
    require_local = class_at("datamodules.files.locations.require_local")
    if not class_at("datamodules.files.locations.looks_local")(path):
        raise FileNotFoundError(f"{path} does not exist (looked in {Path.cwd()}); give a file or a folder of rows")
    place: Path = require_local(path, "path")
    if not place.is_dir():
        if place.suffix == ".lean":
            raise ValueError(
                f"{path}: a Lean file is no file of rows. lightning-gfn prove MODEL --file {path} tries its theorems; "
                'to train, write rows {"name": …, "statement": "(p : Prop) (hp : p) : p"}'
            )
        return place
    found: Path | None = class_at("datamodules.files.locations.find_split")(place, "train")
    return found if found is not None else place


def guess_file(path: str, given: Mapping[str, str] | None = None) -> tuple[Guess, list[Mapping[str, Any]]]:
    """What a file holds, and the rows that were looked at.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or no column can be the question.
    """
    rows = first_rows(path)
    try:
        return guess(rows, given), rows
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def column_settings(guessed: Guess) -> dict[str, str]:
    """The columns to name where a data set would not find them itself, by field."""
    usual = class_at(PROBLEM_FILE).aliases
    columns = dict(guessed.columns)
    if guessed.kind == "messages":
        name = next(name for name in columns if name != "answer")
        own = {} if name in ("messages", "conversations") else {"messages": name}
        answer = columns.get("answer")
        return own | ({"answer": answer} if answer is not None and answer not in usual["answer"] else {})
    others = (*guessed.others, *columns.values())
    return {part: name for part, name in columns.items() if not found_alone(part, name, usual, others)}


def found_alone(part: str, name: str, usual: Mapping[str, Sequence[str]], others: Sequence[str]) -> bool:
    """Whether a data set takes this column for this field without being told."""
    first = next((alias for alias in usual[part] if alias in others), None)
    return first == name and all(name not in aliases for field, aliases in usual.items() if field != part)
