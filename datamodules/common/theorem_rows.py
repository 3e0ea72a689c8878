"""Rows of traced theorems as LeanDojo writes them: reading and checking."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.common.rows import BadRow, Row, read_rows
from lightning_gfn.lean_types import NO_GOALS, Location

MARKS = re.compile(r"</?a>")
SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class TracedTactic:
    """One tactic of a known proof.

    Args:
        tactic: its text, marks of premises removed.
        state_before: all goals before it.
        state_after: all goals after it, ``no goals`` at the end.
        premises: full names of the library facts that it names.
    """

    tactic: str
    state_before: str
    state_after: str
    premises: tuple[str, ...] = ()


Trace = tuple[TracedTactic, ...]


def split_file(folder: Path, split: str) -> Path | None:
    """The file of a split in a folder, or None."""
    return next((file for suffix in SUFFIXES if (file := folder / f"{split}{suffix}").is_file()), None)


def theorem_rows(file: Path) -> Iterator[Row | BadRow]:
    """The theorems of a list, of an object keyed by index, or of JSON lines; also compressed by gzip.

    Raises:
        BadRow: the file is broken as a whole.
    """
    for row in read_rows(file):
        keyed = isinstance(row, Row) and row.fields and all(isinstance(value, dict) for value in row.fields.values())
        if isinstance(row, Row) and keyed:
            for key, value in row.fields.items():
                yield Row(f"{file}: theorem {key}", str(key), value)
        elif isinstance(row, Row):
            yield Row(f"{row.where}: theorem {row.key}", row.key, row.fields)
        else:
            yield row


def text_of(row: Row, field: str) -> str:
    """A column that must hold text.

    Raises:
        BadRow: it does not.
    """
    value = row.fields.get(field)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(row.where, field, "missing" if value is None else f"expected text, found {value!r:.80}")
    return value


def texts_of(row: Row, field: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A column that may hold a text or a list of texts.

    Raises:
        BadRow: it holds something else.
    """
    value = row.fields.get(field)
    if value is None:
        return default
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRow(row.where, field, f"expected a text or a list of texts, found {value!r:.80}")
    return tuple(value)


def location_of(row: Row) -> Location | None:
    """Where the theorem stands; None if it stands alone.

    Raises:
        BadRow: a part of it is there and another is missing.
    """
    fields = ("url", "commit", "file_path")
    if all(row.fields.get(field) is None for field in fields):
        return None
    url, commit, file_path = (text_of(row, field) for field in fields)
    return Location(url, commit, file_path, text_of(row, "full_name"))


def trace_of(row: Row, field: str, steps: object) -> Trace:
    """The traced tactics of a proof.

    Raises:
        BadRow: they are no list of ``{"tactic", "state_before", "state_after"}``.
    """
    if not isinstance(steps, list):
        raise BadRow(row.where, field, "missing" if steps is None else f"expected a list, found {steps!r:.80}")
    return tuple(_tactic(row, f"{field}[{number}]", step) for number, step in enumerate(steps))


def _tactic(row: Row, place: str, step: object) -> TracedTactic:
    if not isinstance(step, Mapping):
        raise BadRow(row.where, place, f"expected an object, found {step!r:.80}")
    texts = {}
    for name in ("tactic", "state_before", "state_after"):
        value = step.get(name)
        if not isinstance(value, str) or not value.strip():
            found = "missing" if value is None else f"expected text, found {value!r:.80}"
            raise BadRow(row.where, f"{place}.{name}", found)
        texts[name] = value.strip()
    tactic = MARKS.sub("", texts["tactic"])
    return TracedTactic(tactic, texts["state_before"], texts["state_after"], _premises(row, place, step))


def _premises(row: Row, place: str, step: Mapping[str, Any]) -> tuple[str, ...]:
    annotated = step.get("annotated_tactic")
    if annotated is None:
        return ()
    try:
        _, premises = annotated
        return tuple(dict.fromkeys(str(premise["full_name"]) for premise in premises))
    except (KeyError, TypeError, ValueError):
        raise BadRow(
            row.where, f"{place}.annotated_tactic", f'expected [text, [{{"full_name": …}}, …]], found {annotated!r:.80}'
        ) from None


def histories(trace: Sequence[TracedTactic]) -> list[tuple[str, ...] | None]:
    """The tactics before each tactic; None from the first place on where the state is not the one that was reached."""
    out: list[tuple[str, ...] | None] = []
    known = True
    for number, step in enumerate(trace):
        known = known and (number == 0 or trace[number - 1].state_after == step.state_before)
        out.append(tuple(before.tactic for before in trace[:number]) if known else None)
    return out


def whole_script(trace: Sequence[TracedTactic]) -> tuple[str, ...] | None:
    """The tactics as a proof; None if the chain of states breaks or does not end in ``no goals``."""
    if not trace or trace[-1].state_after != NO_GOALS or None in histories(trace):
        return None
    return tuple(step.tactic for step in trace)
