"""Questions of integer arithmetic: drawn from a seed, or read from files in the format of Hu et al."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from datamodules.common.base import Split
from datamodules.common.order import keyed_hash
from datamodules.common.rows import BadRow
from datamodules.files.containers import BadRecord, BrokenFile, records
from datamodules.generators.splits import distinct_draws

QUERY = re.compile(r"Question: (?P<question>-?\d+(?: [-+] -?\d+)+) = \? Answer:\s*", re.ASCII)


@dataclass(frozen=True)
class ArithmeticQuestion:
    """A sum and difference of whole numbers, worked off from left to right.

    Args:
        numbers: the operands.
        operators: what stands between them, each ``+`` or ``-``.
        rationale: how it is solved, where that is known; its steps otherwise are ``steps``.
    """

    numbers: tuple[int, ...]
    operators: tuple[str, ...]
    rationale: str | None = None

    @property
    def text(self) -> str:
        """``6 - 0 - 4``."""
        rest = (f" {sign} {number}" for sign, number in zip(self.operators, self.numbers[1:], strict=True))
        return f"{self.numbers[0]}{''.join(rest)}"

    @property
    def values(self) -> list[int]:
        """The first operand, and the value after each further one."""
        values = [self.numbers[0]]
        for sign, number in zip(self.operators, self.numbers[1:], strict=True):
            values.append(values[-1] + (number if sign == "+" else -number))
        return values

    @property
    def answer(self) -> int:
        """The value of the whole."""
        return self.values[-1]

    @property
    def steps(self) -> str:
        """``6 - 0 = 6, 6 - 4 = 2``: each step takes up the value of the one before."""
        rows = zip(self.values, self.operators, self.numbers[1:], self.values[1:], strict=False)
        return ", ".join(f"{before} {sign} {number} = {after}" for before, sign, number, after in rows)


def parsed(text: str) -> ArithmeticQuestion:
    """The question that a text such as ``6 - 0 - 4`` asks."""
    first, *rest = text.split(" ")
    return ArithmeticQuestion((int(first), *map(int, rest[1::2])), tuple(rest[::2]))


def drawn(split: Split, operands: int, count: int, *, operators: Sequence[str], digits: int, seed: int) -> list[str]:
    """Different questions of one split; no other split, of whatever seed, has one of them.

    Args:
        split: which part of all questions they are drawn from.
        operands: of each.
        count: how many.
        operators: between the operands.
        digits: of the largest operand.
        seed: key of the draw.

    Raises:
        ValueError: there are too few.
    """
    random = Random(f"arithmetic/{seed}/{split}/{operands}")

    def draw() -> tuple[str, int, str]:
        numbers = tuple(random.randrange(10**digits) for _ in range(operands))
        text = ArithmeticQuestion(numbers, tuple(random.choices(list(operators), k=operands - 1))).text
        return text, keyed_hash("arithmetic", text), text

    found = distinct_draws(split, count, draw)
    if len(found) < count:
        raise ValueError(
            f"there are only {len(found)} different {split} questions of {operands} operands with {digits} digits, "
            f"{count} are asked for: lower data.num_{split}, or raise data.digits"
        )
    return found


def read_questions(path: str | Path, option: str, *, rationales: bool) -> dict[str, ArithmeticQuestion]:
    """The questions of a JSON file of Hu et al., each once, by text.

    Args:
        path: a list of records with ``str_query``, ``num_sol``, and ``str_rationale`` if rationales are asked for.
        option: that named the file, for errors.
        rationales: read them.

    Raises:
        BadRow: names file, line and field.
        FileNotFoundError: there is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"data.{option}: there is no file {file}")
    found: dict[str, ArithmeticQuestion] = {}
    try:
        for line, record in records(file):
            question = _question(record, f"{file}:{line}", rationales)
            found.setdefault(question.text, question)
    except BrokenFile as error:
        raise BadRow(f"{file}:{error.line}", None, str(error)) from error
    return found


def _question(record: Any, where: str, rationales: bool) -> ArithmeticQuestion:
    if isinstance(record, BadRecord) or not isinstance(record, Mapping):
        reason = record.reason if isinstance(record, BadRecord) else f"{type(record).__name__} instead of an object"
        raise BadRow(where, None, reason)
    match = QUERY.fullmatch(str(record.get("str_query", "")))
    if match is None:
        raise BadRow(where, "str_query", "must read 'Question: 6 - 0 - 4 = ? Answer:'")
    question = parsed(match["question"])
    if record.get("num_sol") != question.answer:
        raise BadRow(where, "num_sol", f"is {record.get('num_sol')!r}, but the value is {question.answer}")
    rationale = record.get("str_rationale")
    if not rationales:
        return question
    if not isinstance(rationale, str) or not rationale.strip():
        raise BadRow(where, "str_rationale", "is missing: this file must hold rationales")
    return ArithmeticQuestion(question.numbers, question.operators, rationale.strip())
