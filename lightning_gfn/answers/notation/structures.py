r"""Answers that have parts: lists, sets, tuples, intervals, unions, matrices, and values with a sign of ±."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from lightning_gfn.answers.notation.plain_text import is_one_pair

Kind = Literal["list", "set", "pair", "union", "matrix"]
MAX_PARTS = 40
"""Answers with more parts are equal only as the same text."""

_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_WORD_SEPARATOR = re.compile(r"\s*,?\s+(?:and|or)\s+", re.IGNORECASE)
_OPENING, _CLOSING = "([{", ")]}"
_SETS = {"\\emptyset": "\\{\\}", "\\mathbb{R}": "(-\\infty,\\infty)"}


@dataclass(frozen=True)
class Structure:
    """An answer with parts.

    Args:
        kind: ``list`` without brackets, ``set`` in braces, ``pair`` in round or square brackets (tuple or interval),
            ``union``, ``matrix``.
        parts: texts of the parts; those of a matrix row by row.
        ends: the brackets of a pair, or the shape of a matrix.
    """

    kind: Kind
    parts: tuple[str, ...]
    ends: str = ""


def read_structure(text: str) -> Structure | None:
    r"""The parts of an answer: ``1, 2``, ``\{1,2\}``, ``(1,2]``, ``(0,1)\cup(2,3)``, ``2\pm 1``, a matrix.

    Args:
        text: a tidy answer that is no single number.

    Returns:
        The structure; None if the answer has no parts.
    """
    text = _SETS.get(text.strip(), text.strip())
    matrix = _MATRIX.fullmatch(text)
    if matrix is not None:
        rows = [_split(row, "&") for row in matrix[2].strip().removesuffix("\\\\").split("\\\\")]
        shape = "x".join(str(len(row)) for row in rows)
        bars = matrix[1][0] if matrix[1][0] in "vV" else ""
        return Structure("matrix", tuple(part for row in rows for part in row), f"{shape}{bars}")
    unions = _split_by(text, r"\\cup(?![A-Za-z])|(?<=[)\]])\s*U\s*(?=[(\[])")
    if len(unions) > 1:
        return Structure("union", unions)
    inner = text.replace("\\{", "{").replace("\\}", "}")
    if len(inner) > 1 and inner[0] == "{" and inner[-1] == "}" and is_one_pair(inner):
        return Structure("set", _elements(inner[1:-1]))
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and _is_pair(text):
        parts = _elements(text[1:-1])
        return Structure("pair", parts, text[0] + text[-1]) if len(parts) > 1 else None
    parts = _elements(text)
    return Structure("list", parts) if len(parts) > 1 else None


def same_structure(first: Structure, second: Structure, same: Callable[[str, str], bool]) -> bool:
    """Whether two structures are equal, part by part.

    Lists, sets and unions are equal in any order, pairs and matrices in the same one. A list and a set are alike; a
    list is a tuple only in the same order. Repeated elements of a set count once.

    Args:
        first: a structure.
        second: another one.
        same: whether two parts are equal.
    """
    kinds = {first.kind, second.kind}
    if max(len(first.parts), len(second.parts)) > MAX_PARTS:
        return False
    if kinds == {"set"}:
        parts, others = _different(first.parts, same), _different(second.parts, same)
        return _same_in_any_order(parts, others, same)
    if kinds <= {"list", "set"} or kinds == {"union"}:
        return _same_in_any_order(first.parts, second.parts, same)
    if len(kinds) == 2 and (kinds != {"list", "pair"} or {"()", ""} != {first.ends, second.ends}):
        return kinds == {"list", "pair"} and min(len(first.parts), len(second.parts)) > 2 and _same_in_order(
            first.parts, second.parts, same
        )  # fmt: skip
    if len(kinds) == 1 and first.ends != second.ends:
        return False
    return _same_in_order(first.parts, second.parts, same)


def with_both_signs(text: str) -> tuple[str, str] | None:
    r"""The two values of an answer with one ``\pm``; None if it has none, or several."""
    parts = re.split(r"\\pm(?![A-Za-z])\s*", text)
    if len(parts) != 2:
        return None
    before, after = parts
    return f"{before}+{after}" if before.strip() else after, f"{before}-{after}"


def _elements(text: str) -> tuple[str, ...]:
    """The elements of a list: behind ``;``, else behind a comma with a blank, else behind each comma, ``and``, ``or``.

    A number that is grouped by commas stays whole in a list whose commas have blanks.
    """
    if not text.strip():
        return ()
    parts = _split(text, ";")
    if len(parts) == 1:
        parts = tuple(part for piece in _words_split(text) for part in _split_by(piece, r",(?=\s)"))
    if len(parts) == 1:
        return _split(text, ",")
    return tuple(small for part in parts for small in ((part,) if _is_grouped(part) else _split(part, ",")))


def _words_split(text: str) -> tuple[str, ...]:
    return _split_by(text, _WORD_SEPARATOR.pattern)


def _is_grouped(part: str) -> bool:
    return re.fullmatch(r"[-+$€£]*[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?[^0-9,]*", part) is not None


def _split(text: str, separator: str) -> tuple[str, ...]:
    return _split_by(text, re.escape(separator))


def _split_by(text: str, pattern: str) -> tuple[str, ...]:
    """The pieces of a text between separators that stand outside of all brackets."""
    ends = [(match.start(), match.end()) for match in re.finditer(pattern, text, re.IGNORECASE)]
    if not ends:
        return (text.strip(),)
    depths, depth = [], 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        depths.append(depth)
    pieces, start = [], 0
    for left, right in ends:
        if (depths[left - 1] if left else 0) == 0:
            pieces.append(text[start:left].strip())
            start = right
    pieces.append(text[start:].strip())
    return tuple(pieces)


def _is_pair(text: str) -> bool:
    """The outer brackets belong together, whatever their shapes: ``(0, 1]`` does, ``(0,1),(2,3)`` does not."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0:
            return place == len(text) - 1
    return False


def _different(parts: Sequence[str], same: Callable[[str, str], bool]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if not any(same(part, other) for other in kept):
            kept.append(part)
    return kept


def _same_in_order(first: Sequence[str], second: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))


def _same_in_any_order(first: Sequence[str], second: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    if len(first) != len(second):
        return False
    left = list(second)
    for part in first:
        match = next((place for place, other in enumerate(left) if same(part, other)), None)
        if match is None:
            return False
        del left[match]
    return True
