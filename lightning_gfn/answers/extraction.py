"""Final answers out of solution texts, by the rules that published GSM8K and MATH numbers are computed with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

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
    answer = _extract_by_pattern(text, style) if is_pattern(style) else _rule(style)(text)
    return answer if answer else None


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


def _rule(style: str) -> Callable[[str], str | None]:
    if style not in _RULES:
        raise ValueError(
            f"style: unknown answer style {style!r}; use one of {', '.join(_RULES)}, or a regular expression with one "
            "group, such as 'A: (.+)'"
        )
    return _RULES[style]


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches_ = list(pattern.finditer(text))
    return matches_[-1] if matches_ else None


def _extract_by_pattern(text: str, pattern: str) -> str | None:
    found = list(matches(pattern, text))
    return _unmarked(found[-1]) if found else None


def _extract_gsm8k(text: str) -> str | None:
    found = _last(_GSM8K, text)
    if found is None or not any(character.isdigit() for character in found[1]):
        return None
    return _without_commas(re.sub(_CURRENCY, "", found[1]))


def _without_commas(text: str) -> str:
    return _COMMA_NUMBER.sub(lambda number: number.group().replace(",", ""), text.rstrip(",")).removesuffix(".")


def _unmarked(text: str) -> str:
    """A line without the Markdown around it and without its final full stop."""
    text = _MARKS.sub("", text.strip()).strip()
    return _MARKS.sub("", text.removesuffix(".").rstrip()).strip()


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
    answer = _unmarked(text[start + len(_METAMATH_MARKER) :].lstrip(" \t").split("\n", 1)[0])
    if _WHOLE_NUMBER.fullmatch(answer):
        answer = _COMMA_NUMBER.sub(lambda number: number.group().replace(",", ""), answer)
    return answer


def _extract_last_number(text: str) -> str | None:
    found = _last(_LAST_NUMBER, text)
    return (found["sign"] or "") + _without_commas(found["number"]) if found is not None else None


_RULES: Mapping[str, Callable[[str], str | None]] = {
    "gsm8k": _extract_gsm8k,
    "math": _extract_math,
    "metamath": _extract_metamath,
    "last_number": _extract_last_number,
}
