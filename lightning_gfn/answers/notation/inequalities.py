r"""Inequalities in one unknown as intervals: ``x \ge 3`` is ``[3,\infty)``."""

from __future__ import annotations

import re

from lightning_gfn.answers.notation.expressions import exact_value

_RELATION = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z]))")
_REALS_WITHOUT = re.compile(r"\\mathbb\{R\}\s*(?:\\setminus|\\backslash|-|\\)\s*\\?\{([^{}]*?)\\?\}")
_NAME = re.compile(r"[A-Za-z]|\\[a-z]+")
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def read_inequality(text: str) -> tuple[str, str] | None:
    r"""The unknown and the set that an inequality describes.

    Args:
        text: a tidy answer such as ``x>3``, ``3<x``, ``1 < x \le 2``, ``\le 3``, ``x \ne 2``.

    Returns:
        The unknown (empty where it is left out) and an interval or a union of two; None if the text is no such
        inequality.
    """
    pieces = [piece.strip() for piece in _RELATION.split(text)]
    if len(pieces) == 5 and _NAME.fullmatch(pieces[2]):
        low, first, name, second, high = pieces
        if {first, second} <= {">", "\\ge"}:
            low, first, second, high = high, _TURNED[second], _TURNED[first], low
        if not ({first, second} <= {"<", "\\le"} and _is_bound(low) and _is_bound(high)):
            return None
        return name, f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"
    if len(pieces) != 3:
        return None
    left, relation, right = pieces
    if _NAME.fullmatch(right) and _is_bound(left) and left:
        left, relation, right = right, _TURNED[relation], left
    if not (left == "" or _NAME.fullmatch(left)) or not right or not _is_bound(right):
        return None
    return left, {
        "<": f"(-\\infty,{right})",
        "\\le": f"(-\\infty,{right}]",
        ">": f"({right},\\infty)",
        "\\ge": f"[{right},\\infty)",
        "\\ne": f"(-\\infty,{right})\\cup({right},\\infty)",
    }[relation]


def without_points(text: str) -> str:
    r"""The real numbers without some rational ones as a union of intervals; any other text as it is.

    Args:
        text: a tidy answer; ``\mathbb{R}\setminus\{2\}`` gives ``(-\infty,2)\cup(2,\infty)``.
    """
    found = _REALS_WITHOUT.fullmatch(text)
    points = [point.strip() for point in found[1].split(",")] if found is not None else []
    values = {value: point for point in points if (value := exact_value(point)) is not None}
    if not points or len(values) < len(points):
        return text
    ends = ["-\\infty", *(point for _, point in sorted(values.items())), "\\infty"]
    return "\\cup".join(f"({low},{high})" for low, high in zip(ends, ends[1:], strict=False))


def _is_bound(text: str) -> bool:
    """A bound has no unknown of its own."""
    bare = re.sub(r"\\[A-Za-z]+", "", text)
    return bool(text) and re.search(r"[A-Za-z,;=]", bare) is None and "\\theta" not in text
