"""Plain arithmetic in a solution's text: which equations it states, and the first one that is false."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = r"\$?[0-9]{1,12}(?:,[0-9]{3}){0,4}(?:\.[0-9]{1,8})?"
_SIDE = rf"{_NUMBER}(?:\s*[-+*/]\s*{_NUMBER}){{0,20}}"
_CHAIN = re.compile(rf"{_SIDE}(?:\s*=\s*{_SIDE})+")
_TOKEN = re.compile(rf"{_NUMBER}|[-+*/]")
_BEFORE = re.compile(r"(?:^|[.,:;!?\n=]|[A-Za-z]{2,})\s*$")
_AFTER = re.compile(r"\s*[-+*/(^%=]|[A-Za-z0-9]|[.,][0-9]")
_TIMES = re.compile(r"(?<=[0-9])\s*(?:[x×·]|\\times)\s*(?=\$?[0-9])")
_ANNOTATION = re.compile(r"<<[^<>]*>>")
_OF = re.compile(r"\b(?:of|times|plus|minus|by|half|twice)\s*$", re.IGNORECASE)
MAX_TEXT_LENGTH = 20_000
"""Characters of a text that are read."""


@dataclass(frozen=True)
class WrongEquation:
    """A false equation and what its left side really amounts to.

    Args:
        text: the equation as it is written.
        left: its left side.
        right: the value of the left side: a whole number, a short decimal or a fraction.
    """

    text: str
    left: str
    right: str


def first_wrong_equation(text: str) -> WrongEquation | None:
    """The first false equation between sums and products of plain numbers in a text.

    A chain ``a = b = c`` is two equations. A side may be rounded to the decimals that it shows. Equations with
    unknowns, brackets or units inside are not read, so ``None`` does not mean that a text is right.

    Args:
        text: a solution.

    Returns:
        The equation, or None if none is found false.
    """
    text = _TIMES.sub(" * ", _ANNOTATION.sub("", text[:MAX_TEXT_LENGTH]))
    for chain in _CHAIN.finditer(text):
        before = text[: chain.start()][-40:]
        if not _BEFORE.search(before) or _OF.search(before) or _AFTER.match(text, chain.end()):
            continue
        sides = [side.strip() for side in chain.group().split("=")]
        if not any(_is_operation(side) for side in sides):
            continue
        for left, right in zip(sides, sides[1:], strict=False):
            left_value, right_value = _value(left), _value(right)
            if left_value is not None and right_value is not None and not _agree(left_value, right_value, right):
                return WrongEquation(f"{left} = {right}", left, _write(left_value))
    return None


def _is_operation(side: str) -> bool:
    return len(_TOKEN.findall(side)) > 1


def _value(side: str) -> Fraction | None:
    """Products before sums; None on a division by zero."""
    tokens = _TOKEN.findall(side)
    total, term, sign = Fraction(0), _number(tokens[0]), 1
    for operator, token in zip(tokens[1::2], tokens[2::2], strict=True):
        number = _number(token)
        if operator == "*":
            term *= number
        elif operator == "/":
            if number == 0:
                return None
            term /= number
        else:
            total, term, sign = total + sign * term, number, 1 if operator == "+" else -1
    return total + sign * term


def _number(token: str) -> Fraction:
    return Fraction(token.replace("$", "").replace(",", ""))


def _agree(left: Fraction, right: Fraction, text: str) -> bool:
    """Equal, or the right side is a number that rounds the left one to the decimals that it shows."""
    if left == right:
        return True
    if _is_operation(text) or left.denominator == 1:
        return False
    decimals = len(text.partition(".")[2])
    return abs(left - right) <= Fraction(1, 2 * 10**decimals)


def _write(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    hundredths = value * 100
    return f"{float(value):.2f}".rstrip("0") if hundredths.denominator == 1 else str(value)
