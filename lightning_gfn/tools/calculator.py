"""A calculator for whole numbers; it reads expressions by a grammar of its own and never runs them as code."""

from __future__ import annotations

import re
from collections.abc import Callable

from lightning_gfn.tools.tool import Tool

SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*"})
EXPRESSION = re.compile(r"[\d\s+\-*()]*$", re.ASCII)
TOKEN = re.compile(r"\d+|[-+*()]", re.ASCII)
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


class MalformedExpressionError(ValueError):
    """No expression of the grammar, or beyond the limits."""


class Calculator(Tool):
    """Writes the value of the expression in front of the trigger: ``6 - 4 =`` becomes ``6 - 4 = 2``.

        sum := product (("+" | "-") product)*        product := factor ("*" factor)*
        factor := "-" factor | "(" sum ")" | digits

    ``−`` and ``×`` are read as ``-`` and ``*``. The expression is the longest text of such characters that ends at the
    trigger. With ``operands`` it is only as much of it as holds the last so many numbers, without brackets: then
    ``3 - 6 - 4 =`` has the value of ``6 - 4``.

    Args:
        operands: the last numbers that count; None for the whole expression.
        trigger: at the end of which the calculator is asked.
        before: what stands between trigger and result.
        max_digits: digits of the longest number.
        max_characters: of the longest expression; with ``operands``, of its part that counts, without spaces.
        error: what is written where there is no expression to compute; None writes nothing.

    Raises:
        ValueError: a setting is out of range; names it.

    Source: Hu et al. 2024, arXiv:2310.04363, section 4.4 (the last two operands).
    """

    name = "calculator"

    def __init__(
        self,
        *,
        operands: int | None = 2,
        trigger: str = "=",
        before: str = " ",
        max_digits: int = 9,
        max_characters: int = 128,
        error: str | None = None,
    ) -> None:
        if operands is not None and operands < 2:
            raise ValueError(f"Calculator: operands is {operands}, expected at least 2, or null for whole expressions")
        if not trigger or max_digits < 1 or max_characters < 3:
            raise ValueError(
                f"Calculator: trigger={trigger!r} must not be empty, max_digits={max_digits} be at least 1 and "
                f"max_characters={max_characters} at least 3"
            )
        self.operands, self.trigger, self.before = operands, trigger, before
        self.max_digits, self.max_characters, self.error = max_digits, max_characters, error

    def call(self, text: str) -> str | None:
        """The value of the expression that ends the text, or ``error``."""
        found = EXPRESSION.search(text.removesuffix(self.trigger).translate(SIGNS))
        assert found is not None
        try:
            return f"{self.before}{self.value(found.group())}"
        except MalformedExpressionError:
            return self.error

    def value(self, expression: str) -> int:
        """The value of an expression.

        Args:
            expression: digits, signs, brackets and spaces.

        Raises:
            MalformedExpressionError: it is none of the grammar, computes nothing, or is beyond the limits.
        """
        tokens = TOKEN.findall(expression)
        if self.operands is not None:
            tokens = last_operands(tokens, self.operands)
        if len(tokens if self.operands is not None else expression) > self.max_characters:
            raise MalformedExpressionError("too long")
        if any(len(token) > self.max_digits for token in tokens):
            raise MalformedExpressionError("a number has too many digits")
        if sum(token.isdigit() for token in tokens) < 2:
            raise MalformedExpressionError("nothing to compute")
        return _Reader(tokens).read()


def last_operands(tokens: list[str], count: int) -> list[str]:
    """The end of an expression that holds the last numbers with the signs that belong to them.

    Args:
        tokens: of the expression.
        count: numbers to keep.

    Raises:
        MalformedExpressionError: there are brackets, or two numbers stand side by side.
    """
    start, numbers = len(tokens), 0
    while start and numbers < count:
        start -= 1
        if tokens[start] in "()":
            raise MalformedExpressionError("brackets, where only the last operands count")
        numbers += tokens[start].isdigit()
    before = tokens[:start]
    has_sign = before[-1:] == ["-"] and (len(before) == 1 or before[-2] in "+-*(")
    return tokens[start - has_sign :]


class _Reader:
    """Reads tokens from left to right by the grammar of ``Calculator``.

    Args:
        tokens: numbers, signs and brackets.
    """

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0

    def read(self) -> int:
        """The value of all tokens.

        Raises:
            MalformedExpressionError: they are no sum.
        """
        value = self.sum()
        if self.next() is not None:
            raise MalformedExpressionError(f"{self.next()!r} is left over")
        return value

    def next(self) -> str | None:
        """The token at hand; None at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def taken(self, among: str) -> str | None:
        """The token at hand, passed over, if it is one of these signs."""
        found = self.next()
        if found is None or found not in among:
            return None
        self.place += 1
        return found

    def sum(self) -> int:
        """Products, added and subtracted from left to right."""
        value = self.product()
        while (sign := self.taken("+-")) is not None:
            value = OPERATIONS[sign](value, self.product())
        return value

    def product(self) -> int:
        """Factors, multiplied."""
        value = self.factor()
        while self.taken("*") is not None:
            value *= self.factor()
        return value

    def factor(self) -> int:
        """A number, a sum in brackets, or the negative of one."""
        if self.taken("-") is not None:
            return -self.factor()
        if self.taken("(") is not None:
            value = self.sum()
            if self.taken(")") is None:
                raise MalformedExpressionError("a bracket is not closed")
            return value
        token = self.next()
        if token is None or not token.isdigit():
            raise MalformedExpressionError("a number is missing")
        self.place += 1
        return int(token)
