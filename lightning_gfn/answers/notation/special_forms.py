"""Answers that are no plain number though they look like one: letters of choices, times of day, ratios, bases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from lightning_gfn.answers.notation.expressions import exact_value
from lightning_gfn.answers.notation.number_words import base_in_digits

_CLOCK = re.compile(
    r"(?:at )?([0-9]{1,2})(?:\s*:\s*([0-9]{2}))?(?:\s*:\s*([0-9]{2}))?\s*(?:o'?clock)?\s*"
    r"(?:(a|p)\.?\s?m\.?|(noon|midnight))?(?: hours)?",
    re.IGNORECASE,
)
_RATIO = re.compile(r"[^:]+(?:(?<!\\)(?:\s*:\s*|\s+to\s+)[^:]+)+")
_RATIO_SIGN = re.compile(r"\s*:\s*|\s+to\s+")
_BASED = re.compile(r"\(?([0-9A-Za-z]+)\)?\s*(?:_\{?\s*([0-9]+|[a-z]+)\s*\}?|,?\s+(?:in )?base[ -]([0-9]+|[a-z]+))")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer|the answer is|answer:)\s+)?[(\[]?([A-J])(?:[)\]]?[.:]?|[)\]][.:]?\s.*|[.:]\s.*)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Clock:
    """A time of day.

    Args:
        hour: as written.
        minute: 0 to 59.
        second: 0 to 59.
        half: ``a``, ``p``, or nothing where it is not said.
    """

    hour: int
    minute: int
    second: int
    half: str

    @property
    def seconds(self) -> int:
        """Since midnight."""
        hour = self.hour % 12 + 12 * (self.half == "p") if self.half else self.hour
        return (hour * 60 + self.minute) * 60 + self.second


def read_clock(text: str) -> Clock | None:
    """The time of day that an answer states: ``3:30 pm``, ``15:30``, ``3 p.m.``; None for a bare number."""
    text = {"noon": "12 pm", "midnight": "12 am"}.get(text.lower(), text)
    match = _CLOCK.fullmatch(text)
    if match is None or not (match[2] or match[4] or match[5] or "clock" in text.lower()):
        return None
    half = match[4].lower() if match[4] else {"noon": "p", "midnight": "a"}.get((match[5] or "").lower(), "")
    clock = Clock(int(match[1]), int(match[2] or 0), int(match[3] or 0), half)
    valid = clock.minute < 60 and clock.second < 60 and clock.hour <= (12 if half else 24)
    return clock if valid and (clock.hour or not half) else None


def same_clock(first: Clock, second: Clock) -> bool:
    """The same time; where only one names its half of the day, the same figures, or the same time in 24 hours."""
    if bool(first.half) == bool(second.half):
        return first.seconds == second.seconds
    figures = [(c.hour, c.minute, c.second) for c in (first, second)]
    return figures[0] == figures[1] or first.seconds == second.seconds


def read_ratio(text: str) -> tuple[Fraction, ...] | None:
    """The terms of a ratio, ``2:3`` or ``2 to 3``; None if it is none."""
    if not _RATIO.fullmatch(text):
        return None
    terms = [exact_value(term) for term in _RATIO_SIGN.split(text)]
    known = tuple(term for term in terms if term is not None and term > 0)
    return known if len(known) == len(terms) > 1 else None


def same_ratio(first: tuple[Fraction, ...], second: tuple[Fraction, ...]) -> bool:
    """Proportional terms."""
    return len(first) == len(second) and all(a * second[0] == b * first[0] for a, b in zip(first, second, strict=True))


def read_based(text: str) -> tuple[int, int] | None:
    """Value and base of a number with its base behind it, ``101_{2}``; None if it is none.

    A numeral with a digit that its base does not have is none.
    """
    match = _BASED.fullmatch(text)
    if match is None or not match[1][0].isalnum():
        return None
    base = base_in_digits(match[2] or match[3])
    if base is None or not any(character.isdigit() for character in match[1]):
        return None
    try:
        return int(match[1], base), base
    except ValueError:
        return None


def read_choice(text: str) -> str | None:
    """The letter of a choice from A to J, alone or in front of its text: ``C``, ``(C)``, ``C.``, ``C) 48``."""
    match = _CHOICE.fullmatch(text)
    return match[1] if match is not None and match[1].isupper() else None
