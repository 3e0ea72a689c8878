"""Final answers out of solution texts, by the rules that published GSM8K and MATH numbers are computed with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lightning_gfn.answers.patterns import compiled, is_pattern, matches
from lightning_gfn.types import AnswerStyle

_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])"
_FRACTION = r"\\[dt]?frac(?:[0-9]{2}|\{-?[0-9.,]+\}\{[0-9.,]+\})"
_CURRENCY = r"(?:\\?\$|[€£¥₹]|Rs\.?\s|USD\s)"
_LEADING = rf"(?:\*\*|__|`|\\boxed\{{|\\[(\[]|{_CURRENCY}|[ \t])*"
_MORE = (
    r"(?: [0-9]+/[0-9]+|[ \t]?/[ \t]?[0-9.,]*[0-9]|(?::[0-9]+)+|[eE][-+]?[0-9]+"
    r"|(?:[ \u00a0\u202f\u2009][0-9]{3})+(?![0-9])"
    rf"|[ \t]?[-–][ \t]?[0-9.,]*[0-9]|(?:(?:(?<=,)|;) -?[0-9.,]*[0-9])|[ \t]+or[ \t]+-?[0-9.,]*[0-9]"
    rf"|[ \t]?{_FRACTION}|\^\{{?-?[0-9]+\}}?|_\{{?[0-9]+\}}?|[ \t]?\\?%"
    r"|[ \t]?(?:\\times|[×*x])[ \t]?10\^\{?-?[0-9]+\}?)"
)
_GSM8K = re.compile(rf"####{_LEADING}([-−–]?{_CURRENCY}?(?:{_FRACTION}|[0-9.,]+{_MORE}{{0,8}}))")
_GSM8K_LINE = re.compile(r"####[ \t]*([^\n]*)")
_BOX = re.compile(r"\\boxed(?![A-Za-z])")
_FRAMED_BOX = re.compile(r"\\fbox(?![A-Za-z])")
_BRACE = re.compile(r"[{}]")
_METAMATH_MARKER = "The answer is:"
_COMMA_NUMBER = re.compile(rf"(?<![0-9.,]){_GROUPED}")
_WHOLE_NUMBER = re.compile(r"(\$|\\\$)?-?(\$|\\\$)?[0-9,]+(\.[0-9]+)?")
_MARKS = re.compile(r"^(?:\*\*|__|`)+(?=\S)|^(?:\*\*|__|`)+\s+|(?<=[^\s*_`])\.?(?:\*\*|__|`)+$")
_DIGITS = rf"(?:{_GROUPED}(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_LAST_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.,^\\])(?<!\^\{)(?<!_\{)(?<!\\sqrt\{)(?<!\\sqrt\[)"
    rf"(?P<sign>(?<![0-9)\]}}] )(?<![)\]}}])[-−–])?{_CURRENCY}?"
    rf"(?P<number>-?(?>{_FRACTION}|{_DIGITS}(?: [0-9]+/[0-9]+|\s?{_FRACTION}|/[0-9]+|:[0-9]{{2}}|[eE][-+]?[0-9]+"
    rf"|(?:[\u00a0\u202f\u2009][0-9]{{3}})+(?![0-9])|\^\{{?-?[0-9]+\}}?)?)(?:\s?\\?%)?)(?!(?:st|nd|rd|th)(?![A-Za-z]))"
)


class AnswerPlace(NamedTuple):
    """Where a final answer stands in a text, in characters.

    Args:
        answer: the answer as it is read.
        marker: where what announces it begins; where the answer itself does if nothing announces it.
        start: where its own text begins.
        end: where that ends.
    """

    answer: str
    marker: int
    start: int
    end: int


def extract_answer(text: str, style: AnswerStyle) -> str | None:
    r"""The final answer of a solution; where a marker occurs several times, the last one counts.

    ``gsm8k``: the number behind ``####``, whole (``3/4``, ``2, 3``, ``3:30``, ``1 000``), without the commas of groups
    and without a final full stop; Markdown and signs of currency in front of it and a missing blank are passed over.
    ``math``: the content of the last ``\boxed``, or of the last ``\fbox`` where no ``\boxed`` occurs, braces matched;
    ``\boxed 5`` reads to the next ``$`` or to the end of the line; a box that is never closed gives no answer.
    ``metamath``: what follows ``The answer is:`` on its line, without Markdown, a final full stop and the commas of a
    number. ``last_number``: the last number that stands for itself (no exponent, no root, no ``2`` of ``H2O``), with a
    fraction, power of ten, percent sign or time of day that belongs to it. Any other text with a bracket is a regular
    expression; the group of its last match is the answer.

    Args:
        text: a solution, or a prefix of one; any length.
        style: how the solution writes its answer.

    Returns:
        The answer, stripped; None if there is none or if it is empty.

    Raises:
        ValueError: if the style is unknown, or a pattern that cannot be used.

    Source: lm-evaluation-harness, tasks ``gsm8k`` (strict match, version 3) and ``hendrycks_math``; MetaMath,
    ``eval_math.py``.
    """
    place = answer_place(text, style)
    return place.answer if place is not None else None


def answer_place(text: str, style: AnswerStyle) -> AnswerPlace | None:
    """The place of what ``extract_answer`` reads; None where there is no answer.

    Args:
        text: a solution, or a prefix of one; any length.
        style: how the solution writes its answer.

    Raises:
        ValueError: if the style is unknown, or a pattern that cannot be used.
    """
    place = _place_by_pattern(text, style) if is_pattern(style) else _rule(style)(text)
    return place if place is not None and place.answer else None


def first_answer_position(text: str, style: AnswerStyle) -> int | None:
    """The end of the first marker: no prefix ``text[:n]`` with n up to this position has an answer.

        extract_answer(text[:n], style) is None  for all n ≤ first_answer_position(text, style)

    Rewards on every prefix need to look at the longer prefixes only. A pattern of one's own may match anything, so its
    position is 0.

    Args:
        text: a solution; any length.
        style: how the solution writes its answer.

    Returns:
        A position in characters, or None if no prefix has an answer.

    Raises:
        ValueError: if the style is unknown, or a pattern that cannot be used.
    """
    check_style(style)
    if is_pattern(style):
        return 0
    if style in ("gsm8k", "last_number"):
        match = _GSM8K.search(text) if style == "gsm8k" else re.search("[0-9]", text)
        return match.start(match.re.groups) if match else None
    if style == "metamath":
        start = text.find(_METAMATH_MARKER)
        return start + len(_METAMATH_MARKER) if start >= 0 else None
    ends = [match.end() for pattern in (_BOX, _FRAMED_BOX) if (match := pattern.search(text))]
    return min(ends) if ends else None


def reference_answer(solution: str, style: AnswerStyle) -> str | None:
    """The final answer of a reference solution, whole.

    Args:
        solution: its text.
        style: how it writes the answer.

    Returns:
        What ``extract_answer`` finds, or the whole answer line of ``gsm8k`` where that has a unit; None if there is no
        answer.

    Raises:
        ValueError: only a part of the answer line would be read.
    """
    found = extract_answer(solution, style)
    if style != "gsm8k":
        return found
    lines = _GSM8K_LINE.findall(solution)
    line = _unmarked(lines[-1]) if lines else ""
    if found is None or not line or _without_commas(line.lstrip("$€£")) == found:
        return found
    from lightning_gfn.answers.equivalence import is_equivalent
    from lightning_gfn.answers.notation.plain_text import tidy
    from lightning_gfn.answers.notation.quantities import read_quantity

    if read_quantity(tidy(line)) is not None and is_equivalent(line, found):
        return line
    raise ValueError(
        f"only {found!r} of the final answer {line[:80]!r} behind #### can be read: write one number or a list there"
    )


def check_style(style: AnswerStyle) -> None:
    """Refuse a style that is neither a name nor a usable pattern.

    Args:
        style: as in ``extract_answer``.

    Raises:
        ValueError: names the style.
    """
    if is_pattern(style):
        compiled(style)
    else:
        _rule(style)


def _rule(style: str) -> Callable[[str], AnswerPlace | None]:
    if style not in _RULES:
        raise ValueError(
            f"style: unknown answer style {style!r}; use one of {', '.join(_RULES)}, or a regular expression with one "
            "group, such as 'A: (.+)'"
        )
    return _RULES[style]


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches_ = list(pattern.finditer(text))
    return matches_[-1] if matches_ else None


def _place_by_pattern(text: str, pattern: str) -> AnswerPlace | None:
    found = list(matches(pattern, text))
    return AnswerPlace(_unmarked(found[-1].answer), *found[-1][1:]) if found else None


def _trimmed(text: str, answer: str, marker: int, start: int, end: int) -> AnswerPlace:
    """The place without the blanks around its text."""
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return AnswerPlace(answer, min(marker, start), start, max(start, start + len(inside.strip())))


def _place_gsm8k(text: str) -> AnswerPlace | None:
    found = _last(_GSM8K, text)
    if found is None or not any(character.isdigit() for character in found[1]):
        return None
    return AnswerPlace(_without_commas(re.sub(_CURRENCY, "", found[1])), found.start(), *found.span(1))


def _without_commas(text: str) -> str:
    return _COMMA_NUMBER.sub(lambda number: number.group().replace(",", ""), text.rstrip(",")).removesuffix(".")


def _unmarked(text: str) -> str:
    """A line without the Markdown around it and without its final full stop."""
    text = _MARKS.sub("", text.strip()).strip()
    return _MARKS.sub("", text.removesuffix(".").rstrip()).strip()


def _place_math(text: str) -> AnswerPlace | None:
    box = _last(_BOX, text)
    found = box if box is not None else _last(_FRAMED_BOX, text)
    if found is None:
        return None
    content = text[found.end() :].lstrip(" \t")
    begin = len(text) - len(content)
    if content.startswith("{"):
        end = _closing_brace(content, depth=0)
        return _trimmed(text, content[1:end].strip(), found.start(), begin + 1, begin + end) if end else None
    content = content.split("\n", 1)[0].split("$", 1)[0]
    content = content[: _closing_brace(content, depth=1)]
    answer = content.strip().removesuffix(".")
    return _trimmed(text, answer, found.start(), begin, begin + len(content))


def _closing_brace(text: str, depth: int) -> int | None:
    """Position of the brace that brings the depth back to zero."""
    for brace in _BRACE.finditer(text):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.start()
    return None


def _place_metamath(text: str) -> AnswerPlace | None:
    marker = text.rfind(_METAMATH_MARKER)
    if marker < 0:
        return None
    rest = text[marker + len(_METAMATH_MARKER) :].lstrip(" \t")
    line, start = rest.split("\n", 1)[0], len(text) - len(rest)
    answer = _unmarked(line)
    if _WHOLE_NUMBER.fullmatch(answer):
        answer = _COMMA_NUMBER.sub(lambda number: number.group().replace(",", ""), answer)
    return _trimmed(text, answer, marker, start, start + len(line))


def _place_last_number(text: str) -> AnswerPlace | None:
    found = _last(_LAST_NUMBER, text)
    if found is None:
        return None
    answer = (found["sign"] or "") + _without_commas(found["number"])
    return AnswerPlace(answer, found.start(), *found.span())


_RULES: Mapping[str, Callable[[str], AnswerPlace | None]] = {
    "gsm8k": _place_gsm8k,
    "math": _place_math,
    "metamath": _place_metamath,
    "last_number": _place_last_number,
}
