r"""The exact value of a written arithmetic expression, plain or LaTeX: ``3*9+5``, ``2\frac{1}{2}``, ``10^{-3}``."""

from __future__ import annotations

import math
import re
from fractions import Fraction

MAX_LENGTH = 1000
"""Longest expression that is read, characters."""
MAX_BITS = 1 << 17
"""Largest numerator or denominator of a power or factorial, bits."""
MAX_EXPONENT = 20_000

WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]{1,3}(?: [0-9]{3})+(?![0-9]|/)|[0-9]+)"
DECIMAL = rf"(?:{WHOLE}(?:\.[0-9]+|\.(?![0-9]))?|\.[0-9]+)"
SCIENTIFIC = rf"{DECIMAL}[eE][-+]?[0-9]{{1,5}}(?![0-9A-Za-z])"
_TOKEN = re.compile(
    rf"\s*(?:(?P<repeating>[0-9]*\.(?:[0-9]*\\overline\{{[0-9]+\}}|[0-9]*?([0-9])\2\2+\s*(?:\\ldots|\.\.\.)))"
    rf"|(?P<mixed>{WHOLE}\s+[0-9]+/[0-9]+(?![0-9.])|{WHOLE}\s*\\frac\{{[0-9]+\}}\{{[0-9]+\}})"
    rf"|(?P<number>{SCIENTIFIC}|{DECIMAL})|(?P<letter>[A-Za-z](?![A-Za-z]))"
    r"|(?P<command>\\(?:frac|times|cdot|div|ast)(?![A-Za-z]))|(?P<sign>\*\*|[-+*/^!(){}\[\]]))"
)
_OPERATORS = {"\\times": "*", "\\cdot": "*", "\\ast": "*", "\\div": "/", "**": "^", "[": "(", "]": ")"}
_MIXED = re.compile(rf"({WHOLE})\s*(?:\s|\\frac)\{{?([0-9]+)(?:/|\}}\{{)([0-9]+)\}}?")


class _NoValueError(Exception):
    """The text is no expression of numbers, or its value is too large to be written."""


def exact_value(text: str, unknown: Fraction | None = None) -> Fraction | None:
    r"""The number that an expression stands for.

    Read are whole numbers (also grouped, ``1,200`` and ``1 200``), decimals, ``1.5e3``, mixed numbers (``2 1/2``,
    ``2\frac{1}{2}``), ``0.\overline{3}``, ``\frac``, ``+ - * / ^ !`` and their LaTeX commands, brackets, and
    products with a bracket (``2(3)``). Two numbers side by side are no product.

    Args:
        text: an expression; braces group as brackets do.
        unknown: value of every one-letter name; None if it is not known.

    Returns:
        The exact value; None if the text has none, or one too large to be written.
    """
    if len(text) > MAX_LENGTH:
        return None
    try:
        return _Reader(_tokens(text), unknown).whole()
    except (_NoValueError, ZeroDivisionError, RecursionError):
        return None


def decimal_value(digits: str) -> Fraction:
    """The value of a literal that ``DECIMAL`` or ``SCIENTIFIC`` matches."""
    number = re.sub("[, ]", "", digits).lower()
    mantissa, _, exponent = number.partition("e")
    return Fraction(mantissa.removesuffix(".")) * _power(Fraction(10), int(exponent) if exponent else 0)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position, text = list[tuple[str, str]](), 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _NoValueError
        written = match.group(match.lastgroup)
        found.append((match.lastgroup, _OPERATORS.get(written, written)))
        position = match.end()
    return found


def _power(base: Fraction, exponent: int) -> Fraction:
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_EXPONENT or (size > 1 and size * abs(exponent) > MAX_BITS):
        raise _NoValueError
    return base**exponent


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, tokens: list[tuple[str, str]], unknown: Fraction | None) -> None:
        self.tokens = [*tokens, ("end", "")]
        self.place = 0
        self.unknown = unknown

    @property
    def next(self) -> str:
        return self.tokens[self.place][1]

    def take(self, *expected: str) -> str:
        kind, written = self.tokens[self.place]
        if written not in expected and kind not in expected:
            raise _NoValueError
        self.place += 1
        return written

    def whole(self) -> Fraction:
        value = self.sum()
        self.take("end")
        return value

    def sum(self) -> Fraction:
        value = self.product()
        while self.next in ("+", "-"):
            value = value + self.product() if self.take("+", "-") == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while True:
            if self.next in ("*", "/"):
                value = value * self.signed() if self.take("*", "/") == "*" else value / self.signed()
            elif self.next == "(" or self.follows_bracket():
                value *= self.power()
            else:
                return value

    def follows_bracket(self) -> bool:
        """A fraction or number behind a closed bracket multiplies; behind a number it would be ambiguous."""
        return self.next in ("{", "\\frac") and self.tokens[self.place - 1][1] == ")"

    def signed(self) -> Fraction:
        if self.next in ("+", "-"):
            return self.power() if self.take("+", "-") == "+" else -self.power()
        return self.power()

    def power(self) -> Fraction:
        value = self.atom()
        while self.next == "!":
            self.take("!")
            if value.denominator != 1 or not 0 <= value <= 5000:
                raise _NoValueError
            value = Fraction(math.factorial(int(value)))
        if self.next == "^":
            self.take("^")
            exponent = self.signed()
            if exponent.denominator != 1 or (value == 0 and exponent <= 0):
                raise _NoValueError
            value = _power(value, int(exponent))
        return value

    def atom(self) -> Fraction:
        kind, written = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            return decimal_value(written)
        if kind == "repeating":
            return repeating_value(written)
        if kind == "mixed":
            return mixed_value(written)
        if kind == "letter" and self.unknown is not None:
            return self.unknown
        if written == "\\frac":
            return self.group() / self.group()
        if written in ("(", "{"):
            self.place -= 1
            return self.group()
        raise _NoValueError

    def group(self) -> Fraction:
        closing = ")" if self.take("(", "{") == "(" else "}"
        value = self.sum()
        self.take(closing)
        return value


def repeating_value(written: str) -> Fraction:
    r"""The value of ``0.1\overline{6}``, or of ``0.333...``, which repeats the digit that it shows three times."""
    whole, _, decimals = written.partition(".")
    if "\\overline" in decimals:
        before, period = decimals.rstrip("}").split("\\overline{")
    else:
        digits = re.sub(r"[^0-9]", "", decimals)
        before, period = digits.rstrip(digits[-1]), digits[-1]
    scale = Fraction(1, 10 ** len(before))
    return (int(whole + before or "0") + Fraction(int(period), 10 ** len(period) - 1)) * scale


def mixed_value(written: str) -> Fraction:
    """The value of a mixed number; the fraction must be a proper one."""
    match = _MIXED.fullmatch(written)
    if match is None or not 0 < int(match[2]) < int(match[3]):
        raise _NoValueError
    return decimal_value(match[1]) + Fraction(int(match[2]), int(match[3]))
