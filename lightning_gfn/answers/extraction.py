"""Final answers out of solution texts, by the rules that published GSM8K and MATH numbers are computed with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import get_args

from lightning_gfn.types import AnswerStyle

_GSM8K = re.compile(r"#### (-?[0-9.,]+)")
_BOX = re.compile(r"\\boxed(?![A-Za-z])")
_FRAMED_BOX = re.compile(r"\\fbox(?![A-Za-z])")
_BRACE = re.compile(r"[{}]")
_METAMATH_MARKER = "The answer is:"
_COMMA_NUMBER = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_WHOLE_NUMBER = re.compile(r"(\$|\\\$)?-?(\$|\\\$)?[0-9,]+(\.[0-9]+)?")


def extract_answer(text: str, style: AnswerStyle) -> str | None:
    r"""The final answer of a solution; where a marker occurs several times, the last one counts.

    ``gsm8k``: the number after ``#### ``, without commas and without a final full stop. ``math``: the content of the
    last ``\boxed``, or of the last ``\fbox`` where no ``\boxed`` occurs, braces matched; ``\boxed 5`` reads to the next
    ``$`` or to the end of the line; a box that is never closed gives no answer. ``metamath``: what follows
    ``The answer is:`` on its line, without a final full stop and without the commas of a number.

    Args:
        text: a solution, or a prefix of one; any length.
        style: how the solution writes its answer.

    Returns:
        The answer, stripped; None if there is none or if it is empty.

    Raises:
        ValueError: if the style is unknown.

    Source: lm-evaluation-harness, tasks ``gsm8k`` (strict match, version 3) and ``hendrycks_math``; MetaMath,
    ``eval_math.py``.
    """
    answer = _rule(style)(text)
    return answer if answer else None


def first_answer_position(text: str, style: AnswerStyle) -> int | None:
    """The end of the first marker: no prefix ``text[:n]`` with n up to this position has an answer.

        extract_answer(text[:n], style) is None  for all n ≤ first_answer_position(text, style)

    Rewards on every prefix need to look at the longer prefixes only.

    Args:
        text: a solution; any length.
        style: how the solution writes its answer.

    Returns:
        A position in characters, or None if no prefix has an answer.

    Raises:
        ValueError: if the style is unknown.
    """
    _rule(style)
    if style == "gsm8k":
        match = _GSM8K.search(text)
        return match.start(1) if match else None
    if style == "metamath":
        start = text.find(_METAMATH_MARKER)
        return start + len(_METAMATH_MARKER) if start >= 0 else None
    ends = [match.end() for pattern in (_BOX, _FRAMED_BOX) if (match := pattern.search(text))]
    return min(ends) if ends else None


def _rule(style: str) -> Callable[[str], str | None]:
    if style not in _RULES:
        raise ValueError(f"style: unknown answer style {style!r}; use one of {', '.join(get_args(AnswerStyle))}")
    return _RULES[style]


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = list(pattern.finditer(text))
    return matches[-1] if matches else None


def _extract_gsm8k(text: str) -> str | None:
    found = _last(_GSM8K, text)
    return found.group(1).replace(",", "").removesuffix(".") if found else None


def _extract_math(text: str) -> str | None:
    box = _last(_BOX, text)
    found = box if box is not None else _last(_FRAMED_BOX, text)
    if found is None:
        return None
    content = text[found.end() :].lstrip(" \t")
    if content.startswith("{"):
        end = _closing_brace(content, depth=0)
        return content[1:end].strip() if end is not None else None
    content = content.split("\n", 1)[0].split("$", 1)[0]
    return content[: _closing_brace(content, depth=1)].strip().removesuffix(".")


def _closing_brace(text: str, depth: int) -> int | None:
    """Position of the brace that brings the depth back to zero."""
    for brace in _BRACE.finditer(text):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.start()
    return None


def _extract_metamath(text: str) -> str | None:
    start = text.rfind(_METAMATH_MARKER)
    if start < 0:
        return None
    line = text[start + len(_METAMATH_MARKER) :].lstrip(" \t").split("\n", 1)[0]
    answer = line.strip().removesuffix(".").rstrip()
    if _WHOLE_NUMBER.fullmatch(answer):
        answer = _COMMA_NUMBER.sub(lambda number: number.group().replace(",", ""), answer)
    return answer


_RULES: Mapping[str, Callable[[str], str | None]] = {
    "gsm8k": _extract_gsm8k,
    "math": _extract_math,
    "metamath": _extract_metamath,
}
