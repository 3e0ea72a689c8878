"""The normal and the canonical form of an answer: text rules and exact arithmetic, without asking math-verify."""

from __future__ import annotations

import re
from fractions import Fraction

from lightning_gfn.answers.notation.expressions import DECIMAL, decimal_value
from lightning_gfn.answers.notation.plain_text import tidy
from lightning_gfn.answers.notation.quantities import read_quantity

MAX_ANSWER_LENGTH = 1000
"""Longer texts are answers only to the very same text (characters)."""
MAX_NUMBER_LENGTH = 100
"""Longer digit strings are compared as text (characters)."""

_SIGNED = rf"[+-]?{DECIMAL}"
_NUMBER = re.compile(_SIGNED)
_RATIO = re.compile(rf"({_SIGNED})/({_SIGNED})")
_LATEX_RATIO = re.compile(rf"([+-]?)\\frac\{{({_SIGNED})\}}\{{({_SIGNED})\}}")
# A space between two letters or digits separates, and so does one behind a comma; every other one is layout.
_SPACES = re.compile(r"(?<![0-9A-Za-z,])\s+|\s+(?![0-9A-Za-z])")
_LISTED = re.compile(r",\s+")


def normalise(text: str) -> str:
    r"""One notation without layout: Markdown, delimiters, Unicode and LaTeX variants, spaces that separate nothing.

    Args:
        text: an answer, LaTeX or plain.

    Returns:
        The rewritten text; equal results mean equal answers.
    """
    return re.sub(r"(^|[ {(\[,])\.(?=[0-9])", r"\g<1>0.", _LISTED.sub(", ", _SPACES.sub("", tidy(text)))).strip()


def parse_number(text: str) -> Fraction | None:
    r"""The exact value of an integer, decimal or fraction: ``-1,200``, ``0.50``, ``3/4``, ``\frac{3}{4}``.

    Args:
        text: a normalised answer.

    Returns:
        The value, or None if the text is no such number or is longer than ``MAX_NUMBER_LENGTH``.
    """
    if len(text) > MAX_NUMBER_LENGTH:
        return None
    if _NUMBER.fullmatch(text):
        return decimal_value(text)
    sign = "+"
    match = _RATIO.fullmatch(text)
    if match:
        above, below = match.groups()
    else:
        match = _LATEX_RATIO.fullmatch(text)
        if not match:
            return None
        sign, above, below = match.groups()
    numerator, denominator = decimal_value(above), decimal_value(below)
    return (-1 if sign == "-" else 1) * numerator / denominator if denominator else None


def canonical_answer(text: str) -> str:
    """The canonical form of an answer: a number as a reduced fraction without its unit, anything else normalised.

    Answers of majority votes are grouped by it. Two answers with one canonical form are equivalent, unless they name
    units that differ.

    Args:
        text: an extracted answer.

    Returns:
        ``1,200``, ``1200`` and ``$1200.0`` give ``1200``; ``.5`` and ``1/2`` give ``1/2``; a text longer than
        ``MAX_ANSWER_LENGTH`` stays as it is.
    """
    if len(text) > MAX_ANSWER_LENGTH:
        return text
    quantity = read_quantity(tidy(text))
    if quantity is None or quantity.value is None or quantity.value.denominator.bit_length() > 1000:
        return normalise(text)
    return str(quantity.value) if quantity.value.numerator.bit_length() <= 4000 else normalise(text)
