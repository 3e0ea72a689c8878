"""Columns of rows in the forms that others write: nested ones by a dotted name, conversations in two parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.common.rows import BadRow, Row
from datamodules.files.messages import prompt_and_answer

CONVERSATIONS = ("messages", "conversations")
"""Columns that hold a whole conversation."""
PROMPT_PART, ANSWER_PART = ": all but the last answer", ": the last answer"
"""Endings of the names that the two parts of a conversation get."""
NESTED: Mapping[str, tuple[str, ...]] = {"answer": ("reward_model.ground_truth",)}
"""Columns of verl's rows, looked for behind the data set's own."""


def parts_of(column: str, field: str) -> str:
    """The name of the part of a conversation that is a question or a solution."""
    return column + (PROMPT_PART if field == "question" else ANSWER_PART)


def with_conversation(row: Row, column: str | None) -> Row:
    """The row with the parts of its conversation as columns of their own.

    Args:
        row: as it was read.
        column: holds the conversation; None for the first of ``CONVERSATIONS`` that the row has.

    Raises:
        BadRow: the named column is missing, or the conversation malformed.
    """
    if column is not None and column not in row.fields:
        raise BadRow(row.where, column, f"missing; the row has {', '.join(sorted(map(str, row.fields)))}")
    found = column if column is not None else next((name for name in CONVERSATIONS if row.fields.get(name)), None)
    if found is None or row.fields[found] is None:
        return row
    prompt, answer = prompt_and_answer(row, found, row.fields[found])
    fields = {name: value for name, value in row.fields.items() if name != found}
    fields[parts_of(found, "question")] = prompt
    if answer is not None:
        fields[parts_of(found, "solution")] = answer
    return Row(row.where, row.key, fields)


def usual_columns(field: str, aliases: Sequence[str]) -> tuple[str, ...]:
    """Names that a field goes by: those of the data set, then those of rows in other forms.

    Args:
        field: question, solution, answer, group or id.
        aliases: the data set's own.
    """
    parts = tuple(parts_of(name, field) for name in CONVERSATIONS) if field in ("question", "solution") else ()
    return (*aliases, *parts, *NESTED.get(field, ()))


def value_at(fields: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of ``outer.inner`` within one; None if there is none."""
    if column in fields or "." not in column:
        return fields.get(column)
    outer, _, inner = column.partition(".")
    value = fields.get(outer)
    return value_at(value, inner) if isinstance(value, Mapping) else None


class ColumnReport:
    """Counts which columns became what, to say it in one line."""

    def __init__(self) -> None:
        self.readings: Counter[tuple[tuple[str, str], ...]] = Counter()
        self.others: dict[str, None] = {}

    def count(self, used: Mapping[str, str], others: Sequence[str]) -> None:
        """One more row.

        Args:
            used: column of each field.
            others: further columns.
        """
        self.readings[tuple(used.items())] += 1
        self.others.update(dict.fromkeys(others))

    def __str__(self) -> str:
        total = sum(self.readings.values())
        readings = [
            ", ".join(f"{field} from {column!r}" for field, column in reading)
            + (f" ({count} rows)" if count < total else "")
            for reading, count in self.readings.most_common(3)
        ]
        more = len(self.readings) - len(readings)
        text = "; ".join([*readings, *([f"{more} more readings"] if more > 0 else [])])
        return text + (f"; further columns: {', '.join(map(str, self.others))}" if self.others else "")
