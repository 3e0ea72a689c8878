"""Rewrites answers to a canonical form by text rules and exact rational arithmetic; nothing is ever evaluated."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_ANSWER_LENGTH = 1000
"""Longer texts are answers only to the very same text (characters)."""
MAX_NUMBER_LENGTH = 100
"""Longer digit strings are compared as text (characters)."""

_DECIMAL = r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?"
_NUMBER = re.compile(_DECIMAL)
_RATIO = re.compile(rf"({_DECIMAL})/({_DECIMAL})")
_LATEX_RATIO = re.compile(rf"([+-]?)\\frac\{{({_DECIMAL})\}}\{{({_DECIMAL})\}}")
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\!|(?<=[0-9])\\,(?=[0-9]{3})", ""),
        (r"\\[,;:]|\\ |~", " "),
        (r"\{,\}", ","),
        (r"\\[td]frac", r"\\frac"),
        (r"\\(?:left|right)(?![A-Za-z])", ""),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", ""),
        (r"\\?[$%]", ""),
        (r"\\(?:text|mbox)\{ [^{}]*\}\s*$", ""),
        (r"\\(?:text|mathrm|textbf|mathbf)\{([^{}]*)\}", r"\1"),
        (r"^\s*[A-Za-z]\s*=(?!.*=)", ""),
        (r"\.\s*$", ""),
        (r"(^|[ {(\[,])\.(?=[0-9])", r"\g<1>0."),
        (r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9A-Za-z])\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
        # A space between two letters or digits separates; every other one is layout.
        (r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", ""),
        (r"\s+", " "),
    )
)


def normalise(text: str) -> str:
    r"""Remove what does not change an answer: layout, units, signs of degree, percent and dollar, short ``\frac``.

    Args:
        text: an answer, LaTeX or plain.

    Returns:
        The rewritten text; equal results mean equal answers.

    Source: the string normalisation of Hendrycks et al. 2021, arXiv:2103.03874 (``math_equivalence.py``), with digits
    never joined across a space.
    """
    text = text.replace("\n", " ").strip()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()


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
        return _decimal(text)
    sign = "+"
    match = _RATIO.fullmatch(text)
    if match:
        above, below = match.groups()
    else:
        match = _LATEX_RATIO.fullmatch(text)
        if not match:
            return None
        sign, above, below = match.groups()
    numerator, denominator = _decimal(above), _decimal(below)
    if numerator is None or not denominator:
        return None
    return (-1 if sign == "-" else 1) * numerator / denominator


def canonical_answer(text: str) -> str:
    """The canonical form of an answer: a number as a reduced fraction, anything else normalised.

    Two answers with one canonical form are equivalent; answers of majority votes are grouped by it.

    Args:
        text: an extracted answer.

    Returns:
        ``1,200``, ``1200`` and ``1200.0`` give ``1200``; ``.5`` and ``1/2`` give ``1/2``; a text longer than
        ``MAX_ANSWER_LENGTH`` stays as it is.
    """
    if len(text) > MAX_ANSWER_LENGTH:
        return text
    normal = normalise(text)
    number = parse_number(normal)
    return str(number) if number is not None else normal


def _decimal(text: str) -> Fraction | None:
    digits = text.replace(",", "")
    return Fraction(digits) if any(character.isdigit() for character in digits) else None
