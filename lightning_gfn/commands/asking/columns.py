"""Which column of a file is the question, the solution and the answer: guessed by names and by what stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_gfn.answers.extraction import extract_answer

Kind = Literal["problems", "messages", "preferences", "labels", "theorems"]
NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "problem", "query", "instruction", "prompt", "task", "exercise", "input", "text"),
    "solution": ("solution", "response", "completion", "output", "working", "rationale", "explanation", "reasoning"),
    "answer": ("answer", "final_answer", "ground_truth", "gold", "result", "target", "expected", "value", "label"),
}
"""Names that each field goes by, the usual ones first."""
ROW_NAMES = ("id", "index", "idx", "no", "nr", "num", "row", "#")
"""Names of columns of numbers that name the rows."""
STYLES = ("gsm8k", "math", "metamath")
PATTERNS = ("Final answer: (.+)", "Answer: (.+)", "ANSWER: (.+)", "A: (.+)", "the answer is (.+)")
"""Ways of writing the answer that have no name of their own, tried on the solutions of a file."""
OTHER_FORMS: Mapping[str, str] = {
    "traced_tactics": "these are theorems traced by LeanDojo, which datamodules.leandojo.LeanDojoBenchmark4 reads: "
    "begin with experiments/lean/leandojo_sft.yaml and --data.init_args.path",
    "formal_statement": "these are whole Lean declarations; write name and what follows it apart, "
    '{"name": "t", "statement": "(p : Prop) (hp : p) : p"}',
}
"""Columns of files that hold something else than questions, and what to do with them."""
NUMBER = re.compile(r"\s*[-−+]?[$€£]?\s*[0-9][0-9,. ]*(?:/[0-9]+)?\s*%?\s*")
SHORT, LONG = 40, 15
"""Characters that an answer has at most on average, and a question at least."""
MOST = 0.9


@dataclass(frozen=True)
class Column:
    """What stands in one column.

    Args:
        name: of the column.
        filled: share of rows with something in it.
        is_text: all values are texts or numbers.
        length: mean number of characters.
        distinct: share of different values.
        numeric: share of values that are a number.
        asks: share of texts with a question mark.
        marked: share of texts in which one of ``STYLES`` finds an answer.
        counting: its values number the rows.
    """

    name: str
    filled: float
    is_text: bool
    length: float
    distinct: float
    numeric: float
    asks: float
    marked: float
    counting: bool = False


@dataclass(frozen=True)
class Guess:
    """What the rows of a file are.

    Args:
        kind: problems, conversations, pairs, single judged completions, or theorems.
        columns: column of each field, where it was found.
        why: reason for each field, for a comment.
        sure: fields whose reason is their name.
        others: further columns.
    """

    kind: Kind
    columns: Mapping[str, str]
    why: Mapping[str, str]
    sure: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()
    unclear: tuple[str, ...] = field(default=())


def guess(rows: Sequence[Mapping[str, Any]], given: Mapping[str, str] | None = None) -> Guess:
    """What a file holds.

    Args:
        rows: some of its rows.
        given: columns that the user has named, by field.

    Raises:
        ValueError: no column can be the question, or a named one does not exist.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    given = given if given is not None else {}
    for name in given.values():
        if name.partition(".")[0] not in names:
            raise ValueError(f"there is no column {name!r}: the rows have {', '.join(map(repr, names))}")
    fixed = fixed_kind(rows, names)
    if fixed is not None and not given:
        return fixed
    described = {name: described_column(name, [row.get(name) for row in rows]) for name in names}
    return problem_columns(described, given)


def fixed_kind(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Guess | None:
    """The forms whose columns have fixed names; None if the rows have none of them."""

    def found(kind: Kind, *fields: str) -> Guess:
        columns = {name: name for name in fields if name in names}
        others = tuple(name for name in names if name not in columns)
        return Guess(kind, columns, dict.fromkeys(columns, "its name"), frozenset(columns), others)

    if {"chosen", "rejected"} <= set(names):
        return found("preferences", "prompt", "chosen", "rejected")
    if {"prompt", "completion", "label"} <= set(names):
        return found("labels", "prompt", "completion", "label")
    if "statement" in names and any(is_statement(row.get("statement")) for row in rows):
        return found("theorems", "name", "statement", "context", "proof")
    for name in ("messages", "conversations"):
        if any(row.get(name) for row in rows):
            guessed = found("messages", name)
            answer = next((known for known in NAMES["answer"] if known in guessed.others), None)
            if answer is None:
                return guessed
            columns = {name: name, "answer": answer}
            others = tuple(other for other in guessed.others if other != answer)
            return Guess("messages", columns, dict.fromkeys(columns, "its name"), frozenset(columns), others)
    return None


def is_statement(value: Any) -> bool:
    """Whether a text can be the statement of a Lean theorem: binders, a colon, a type."""
    return isinstance(value, str) and re.match(r"\s*(?:[({\[⦃]|:[^=])", value) is not None


def described_column(name: str, values: Sequence[Any]) -> Column:
    """What stands in a column."""
    there = [value for value in values if value is not None and value != ""]
    texts = [str(value) for value in there if isinstance(value, (str, int, float)) and not isinstance(value, bool)]
    messages = [value for value in there if isinstance(value, list) and value and isinstance(value[0], Mapping)]
    texts += [str(message[-1].get("content", "")) for message in messages]
    count = max(1, len(texts))

    def share(test: Any) -> float:
        return sum(bool(test(text)) for text in texts) / count

    return Column(
        name,
        filled=len(there) / max(1, len(values)),
        is_text=bool(texts) and len(texts) == len(there),
        length=sum(map(len, texts)) / count,
        distinct=len(set(texts)) / count,
        numeric=share(NUMBER.fullmatch),
        asks=share(lambda text: "?" in text),
        marked=share(lambda text: any(extract_answer(text, style) is not None for style in STYLES)),
        counting=numbers_rows(texts),
    )


def numbers_rows(texts: Sequence[str]) -> bool:
    """Whether texts count the rows: whole numbers, each one more than the one before; two rows say nothing."""
    if len(texts) < 3 or not all(re.fullmatch("[0-9]{1,15}", text) for text in texts):
        return False
    return [int(text) for text in texts] == list(range(int(texts[0]), int(texts[0]) + len(texts)))


def problem_columns(columns: Mapping[str, Column], given: Mapping[str, str]) -> Guess:
    """Question, solution and answer among the columns of a file.

    Raises:
        ValueError: nothing can be the question.
    """
    chosen: dict[str, str] = dict(given)
    why = dict.fromkeys(given, "you named it")
    sure = set(given)
    unclear: list[str] = []
    for part in ("question", "solution", "answer"):
        if part in chosen:
            continue
        free = [column for column in columns.values() if column.name not in chosen.values() and column.is_text]
        ranked = sorted(((score(part, column), column) for column in free), key=lambda pair: -pair[0][0])
        if not ranked or ranked[0][0][0] <= 0:
            continue
        (_, reason, by_name), best = ranked[0]
        chosen[part], why[part] = best.name, reason
        if by_name:
            sure.add(part)
        elif len(ranked) > 1 and ranked[1][0][0] > 0:
            unclear.append(f"{part} may also be {ranked[1][1].name!r}")
    if "question" not in chosen:
        if (form := next((name for name in OTHER_FORMS if name in columns), None)) is not None:
            raise ValueError(OTHER_FORMS[form])
        raise ValueError(
            f"no column looks like a question: the rows have {', '.join(map(repr, columns))}; name it: "
            "--columns question=COLUMN"
        )
    others = tuple(name for name in columns if name not in chosen.values())
    return Guess("problems", chosen, why, frozenset(sure), others, tuple(unclear))


def score(part: str, column: Column) -> tuple[float, str, bool]:
    """How well a column fits a field (0 or less: not at all), why, and whether its name says so."""
    fits, what = fit(part, column)
    names = NAMES[part]
    words = re.split(r"[^a-z]+", column.name.lower())
    if not fits:
        return 0.0, "", False
    if column.name.lower() in names:
        return 3.0 - 0.01 * names.index(column.name.lower()), "its name", True
    if any(name in words for name in names):
        return 2.0, f"its name holds {next(name for name in names if name in words)!r}", True
    if column.filled < MOST or not what:
        return 0.0, "", False
    return 1.0 + 0.1 * column.asks, what, False


def fit(part: str, column: Column) -> tuple[bool, str]:
    """Whether the content allows the field, and what of it speaks for it without the name."""
    if part == "question":
        asks = f"{column.asks:.0%} of its texts ask" if column.asks > 0.5 else ""
        return column.length >= LONG and column.marked < 0.5, asks
    if part == "solution":
        reads = f"an answer can be read from {column.marked:.0%} of its texts" if column.marked > 0.5 else ""
        return column.length > SHORT or column.marked > 0.5, reads
    number = f"{column.numeric:.0%} of its values are numbers" if column.numeric >= MOST else ""
    names_row = column.counting or column.name.lower().strip(" .") in ROW_NAMES
    return 0 < column.length <= SHORT, number if not names_row else ""


def guess_style(solutions: Sequence[str], answers: Sequence[str]) -> tuple[str, str]:
    """How completions write their answer, and why.

    Args:
        solutions: reference solutions; may be empty.
        answers: reference answers; may be empty.
    """
    for style in (*STYLES, *PATTERNS):
        found = sum(extract_answer(text, style) is not None for text in solutions)
        if solutions and found >= MOST * len(solutions):
            return style, f"found in {found} of {len(solutions)} solutions looked at"
    if solutions and not answers:
        found = sum(extract_answer(text, "last_number") is not None for text in solutions)
        if found >= MOST * len(solutions):
            return "last_number", f"{found} of {len(solutions)} solutions looked at hold a number, and no other sign"
    if not answers:
        return "metamath", "no answer was found in the rows, so that nothing is judged by it"
    if all(NUMBER.fullmatch(answer) for answer in answers):
        return "last_number", "the answers are numbers: the last number of a completion is taken"
    if all(re.fullmatch(r"\(?[A-Ja-j]\)?", answer.strip()) for answer in answers):
        return r"[Aa]nswer(?: is)?:? *\(?([A-Ja-j])\b", "the answers are letters of choices"
    return "math", "the answers are no numbers: a completion puts its answer in \\boxed{}"
