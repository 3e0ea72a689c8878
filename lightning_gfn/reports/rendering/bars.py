"""Horizontal bars as inline SVG: one a method."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

ROW, NAME, VALUE = 26.0, 110.0, 70.0


def draw_bars(title: str, bars: Sequence[tuple[str, int, float, str]], *, width: float = 520.0) -> str:
    """The SVG element.

    Args:
        title: what the lengths mean.
        bars: name, number (decides the colour), value of at least 0, and its text, of each bar.
        width: of the drawing (pixels).
    """
    room = width - NAME - VALUE
    highest = max((value for _, _, value, _ in bars), default=0.0) or 1.0
    parts = []
    for row, (name, index, value, text) in enumerate(bars):
        y = 8 + row * ROW
        length = room * value / highest
        parts.append(
            f'<g class="method m{index} c{index % 8}"><text class="label" x="{NAME - 8:g}" y="{y + 15:g}" '
            f'text-anchor="end">{escape(name)}</text><rect class="block" x="{NAME:g}" y="{y + 2:g}" '
            f'width="{length:.1f}" height="{ROW - 8:g}"><title>{escape(f"{name}: {text}")}</title></rect>'
            f'<text class="tick" x="{NAME + length + 5:.1f}" y="{y + 15:g}">{escape(text)}</text></g>'
        )
    height = 8 + len(bars) * ROW + 26
    middle = NAME + room / 2
    parts.append(f'<text class="title" x="{middle:g}" y="{height - 6:g}" text-anchor="middle">{escape(title)}</text>')
    return (
        f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
