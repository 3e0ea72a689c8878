"""Numbers written in English words, as digits."""

from __future__ import annotations

import re

_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: number for number, word in enumerate(_UNITS)} | {w: 10 * n for n, w in enumerate(_TENS, start=2)}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_WORD = re.compile(r"[A-Za-z]+")
_JOINT = re.compile(r"[\s-]+(?:and\s+)?")


def in_digits(text: str) -> str:
    """The text with the number words that it begins with as digits: ``twenty-five apples`` gives ``25 apples``.

    Args:
        text: an answer without digits.

    Returns:
        The rewritten text; the same one if it does not begin with a number word.
    """
    position, end, total, group = 0, 0, 0, 0
    while (match := _WORD.match(text, position)) is not None:
        word = match.group().lower()
        if word in _SMALL:
            if group % 100 and not (group % 10 == 0 and group % 100 > 10 and _SMALL[word] < 10):
                return text
            group += _SMALL[word]
        elif word == "hundred" and 0 < group < 10:
            group *= 100
        elif word in _LARGE and group:
            total, group = total + group * _LARGE[word], 0
        else:
            break
        end = match.end()
        joint = _JOINT.match(text, end)
        if joint is None:
            break
        position = joint.end()
    return f"{total + group}{text[end:]}" if end else text


def base_in_digits(word: str) -> int | None:
    """The base that digits or a word name: ``5``, ``five``; None if it is none from 2 to 36."""
    written = in_digits(word.strip())
    return int(written) if written.isascii() and written.isdigit() and 2 <= int(written[:4]) <= 36 else None
