r"""Stated equations: which ones a solution's text holds, whether they are true, and the first one that is false."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lightning_gfn.answers.notation.expressions import DECIMAL, exact_value

UNKNOWN = "x"
"""The one letter that may stand for a known value."""
MAX_TEXT_LENGTH = 20_000
"""Characters of a text that are read."""

_NUMBER = r"\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.[0-9]{1,8})?"
_ATOM = rf"(?:{_NUMBER}|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))"
_TERM = rf"\({{0,4}}-?\(?{_ATOM}\){{0,4}}"
_SIDE = rf"{_TERM}(?:\s*[-+*/]\s*{_TERM}){{0,20}}"
_CHAIN = re.compile(rf"(?<![\w.,]){_SIDE}(?:\s*=\s*{_SIDE})+")
_OPERATION = re.compile(r"[\w.)]\s*[-+*/]\s*[$\w.(-]")
_BEFORE = re.compile(r"(?:^|[.,:;!?(\n=]|[A-Za-z]{2,})\s*$")
_AFTER = re.compile(r"\s*[-+*/(^%=!]|[A-Za-z0-9]|[.,][0-9]|\s+[0-9]+/[0-9]|\s+(?:dozen|hundred|thousand|[mb]illion)\b")
_OF = re.compile(r"\b(?:of|times|plus|minus|by|half|twice|than)\s*$", re.IGNORECASE)
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple((re.compile(p), r) for p, r in (
    (r"<<[^<>]*>>", ""),
    (r"\\\$", "$"),
    (r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)"),
    (r"(?<=[0-9)])\s*(?:[x×·∗⋅]|\\times|\\cdot)\s*(?=[$(]?[0-9(])", " * "),
    (r"÷|\\div(?![A-Za-z])", "/"),
    (r"[−–]", "-"),
    (r"(?m)^[^\S\n]*[-*•][^\S\n]+", ""),
))  # fmt: skip


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


def first_wrong_equation(text: str, unknown: Fraction | None = None) -> WrongEquation | None:
    """The first false equation between expressions of plain numbers in a text.

    A chain ``a = b = c`` is two equations; ``states`` says when one is true. Equations with units, percent signs or
    powers inside are not read, so ``None`` does not mean that a text is right.

    Args:
        text: a solution.
        unknown: value of the letter x; None leaves the equations that need it unread.

    Returns:
        The equation, or None if none is found false.
    """
    for sides in _chains(text):
        for left, right in _valued_pairs(sides, unknown):
            if not states(left, right, unknown):
                value = side_value(left, unknown)
                assert value is not None
                return WrongEquation(f"{left} = {right}", left, _write(value))
    return None


def equation_is_true(chain: str, unknown: Fraction | None = None) -> bool | None:
    """Is every step of ``3*9+5=27+5=32`` true?

    Args:
        chain: sides joined by ``=``, each of numbers, ``+ - * / ^``, brackets and x.
        unknown: value of x; None if it is not known.

    Returns:
        None if fewer than two sides have a value: then nothing is claimed that could be checked.
    """
    pairs = list(_valued_pairs([side.strip() for side in chain.split("=")], unknown))
    return all(states(left, right, unknown) for left, right in pairs) if pairs else None


def states(left: str, right: str, unknown: Fraction | None = None) -> bool:
    r"""Whether ``left = right`` is true: the one rule of rounding for all equations.

        value(left) = value(right),  or  |value(left) - value(right)| ≤ 10^-d / 2

    the second where the right side is one decimal with d ≥ 1 digits behind the point: a result may be rounded to the
    digits that it shows, a tie up or down. A whole number must be exact, and so must a sum or product. A decimal on the
    left may be the rounded form of an expression on the right.

    Args:
        left: an expression with a value.
        right: another one.
        unknown: value of x.

    Raises:
        ValueError: a side has no value.
    """
    first, second = side_value(left, unknown), side_value(right, unknown)
    if first is None or second is None:
        raise ValueError(f"no value in {left!r} = {right!r}")
    if first == second:
        return True
    decimals = _decimals(right) if _decimals(right) is not None or _is_number(right) else _decimals(left)
    return decimals is not None and abs(first - second) <= Fraction(1, 2 * 10**decimals)


def side_value(side: str, unknown: Fraction | None = None) -> Fraction | None:
    """The number that one side of an equation stands for; None if it has none.

    Args:
        side: an expression.
        unknown: value of x.
    """
    letters = set(re.findall(r"(?<![\\A-Za-z])[A-Za-z]", side))
    return exact_value(side.replace("$", ""), unknown) if letters <= {UNKNOWN} else None


def _chains(text: str) -> Iterator[list[str]]:
    """The sides of each chain of equations that stands for itself in a text and claims an operation."""
    text = text[:MAX_TEXT_LENGTH]
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    for chain in _CHAIN.finditer(text):
        before = text[: chain.start()][-40:]
        if not _BEFORE.search(before) or _OF.search(before) or _AFTER.match(text, chain.end()):
            continue
        sides = [side.strip() for side in _matched(chain.group()).split("=")]
        if any(_OPERATION.search(side) for side in sides):
            yield sides


def _matched(chain: str) -> str:
    """A chain without the brackets around it that are not its own."""
    for _ in range(8):
        missing = chain.count("(") - chain.count(")")
        if missing > 0 and chain.startswith("("):
            chain = chain[1:]
        elif missing < 0 and chain.endswith(")"):
            chain = chain[:-1]
    return chain


def _valued_pairs(sides: Sequence[str], unknown: Fraction | None) -> Iterator[tuple[str, str]]:
    """Each side that has a value with the next one that has."""
    valued = [side for side in sides if side_value(side, unknown) is not None]
    return zip(valued, valued[1:], strict=False)


def _is_number(text: str) -> bool:
    return re.fullmatch(rf"-?\$?{DECIMAL}", text.strip()) is not None


def _decimals(text: str) -> int | None:
    """Digits behind the point of one decimal; None for anything else."""
    digits = len(text.strip().partition(".")[2]) if _is_number(text) else 0
    return digits if digits else None


def _write(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    hundredths = value * 100
    return f"{float(value):.2f}".rstrip("0") if hundredths.denominator == 1 else str(value)
