"""Decide whether a written chain of equations is true."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction

OPERATIONS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MAX_LENGTH = 500
"""Longest side of an equation that is read, characters."""


def equation_is_true(chain: str, unknown: Fraction | None = None) -> bool | None:
    """Are all sides of ``3*9+5=27+5=32`` the same number?

    Args:
        chain: sides joined by ``=``, each of numbers, ``+ - * /``, brackets and one-letter unknowns.
        unknown: value of every letter; None if it is not known.

    Returns:
        None if fewer than two sides have a value: then nothing is claimed that could be checked.
    """
    values = [value for side in chain.split("=") if (value := side_value(side, unknown)) is not None]
    return all(value == values[0] for value in values) if len(values) > 1 else None


def side_value(side: str, unknown: Fraction | None) -> Fraction | None:
    """The number that an expression stands for; None if it has none."""
    if len(side) > MAX_LENGTH:
        return None
    try:
        return _value(ast.parse(side.strip(), mode="eval").body, unknown)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.AST, unknown: Fraction | None) -> Fraction | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.Name):
        return unknown
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, unknown)
        return -value if value is not None and isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = _value(node.left, unknown), _value(node.right, unknown)
        return None if left is None or right is None else OPERATIONS[type(node.op)](left, right)
    return None
