"""The equations of a solution in a normal form, so that wording does not make two solutions different."""

from __future__ import annotations

import re

_ANNOTATION = re.compile(r"<<[^<>]*>>")
_BULLET = re.compile(r"(?m)^[^\S\n]*[-*•][^\S\n]+")
_BLANKS = re.compile(r"[^\S\n]+")
_MARKS = re.compile(r"\\?[$%£€]|\\[,;:! ]|\\(?:left|right)(?![A-Za-z])|\{,\}")
_FRACTION = re.compile(r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}")
_OPERATORS = tuple(
    (re.compile(pattern), operator)
    for pattern, operator in (
        (r"\\times(?![A-Za-z])|\\cdot(?![A-Za-z])|[×·∗⋅]|(?<=\d)\s*[xX]\s*(?=[\d(])", "*"),
        (r"\\div(?![A-Za-z])|÷", "/"),
        (r"[−–]", "-"),
    )
)
_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+")
_ATOM = rf"(?:{_NUMBER.pattern}|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))"
_TERM = rf"[-+]? ?\(* ?-? ?{_ATOM} ?\)*"
_CHAIN = re.compile(rf"(?<![\w.]){_TERM}(?: ?[-+*/=] ?{_TERM})+")
_OPERATION = re.compile(r"(?<=[\w.)])[-+*/]")


def equations(text: str) -> tuple[str, ...]:
    r"""The equations of a text in their order, normalised.

    An equation is a chain of numbers and one-letter unknowns joined by ``+ - * /`` and ``=``, brackets allowed, with at
    least one operation and one ``=``, all on one line: ``3 * 9 = 27`` and ``x = 27 + 5 = 32``, but neither ``x = 32``
    nor ``3 * 9``.

    Normal form: no white space, no signs of currency and percent, no calculator annotations (``<<3*9=27>>``); ``×``,
    ``\times``, ``\cdot`` and ``3 x 9`` become ``*``; ``÷``, ``\div`` and ``\frac{a}{b}`` become ``/``; numbers without
    thousands commas, without final zeros after the point and with a digit before it; unknowns in lower case. Operands
    keep their order.

    Args:
        text: a solution.

    Returns:
        A tuple of equations; empty if there is none.
    """
    text = _MARKS.sub("", _BULLET.sub("", _ANNOTATION.sub("", text)))
    text = _FRACTION.sub(r"(\1)/(\2)", text)
    for pattern, operator in _OPERATORS:
        text = pattern.sub(operator, text)
    text = _BLANKS.sub(" ", text)
    chains = ("".join(found.group().split()) for found in _CHAIN.finditer(text))
    return tuple(_normal(chain) for chain in chains if "=" in chain and _OPERATION.search(chain))


def operations(text: str) -> tuple[str, ...]:
    """The operations of each equation of a text, in order: ``*`` and ``+-`` of ``3 * 9 = 27`` and ``27 + 5 - 1 = 31``.

    Args:
        text: a solution.

    Returns:
        One text of ``+ - * /`` an equation; numbers, unknowns, brackets and signs in front of numbers are dropped.
    """
    return tuple("".join(_OPERATION.findall(equation)) for equation in equations(text))


def _normal(chain: str) -> str:
    """A chain with its numbers in canonical form."""
    return _NUMBER.sub(lambda number: _canonical(number.group()), chain).lower()


def _canonical(number: str) -> str:
    whole, point, decimals = number.replace(",", "").partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (point + decimals if decimals else "")
