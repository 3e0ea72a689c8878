"""Horizontal bars as inline SVG: one a method."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lightning_gfn.reports.rendering.svg import LETTER, MOST_ROOM, NARROW, fitted

ROW, VALUE = 26.0, 84.0


def draw_bars(title: str, bars: Sequence[tuple[str, int, float, str]], *, width: float = 520.0) -> str:
    """Two SVG elements, of which the page shows the one that is legible in the room there is.

    Args:
        title: what the lengths mean.
        bars: name, number (decides the colour), value of at least 0, and its text, of each bar.
        width: of the larger drawing (pixels).
    """
    return drawn(title, bars, width, "full") + drawn(title, bars, NARROW, "narrow")


def drawn(title: str, bars: Sequence[tuple[str, int, float, str]], width: float, kind: str) -> str:
    """One SVG element; ``kind`` is its class, beside ``plot``."""
    longest = max((len(name) for name, *_ in bars), default=0)
    beside = min(16 + LETTER * longest, MOST_ROOM * width)
    room = width - beside - VALUE
    highest = max((value for _, _, value, _ in bars), default=0.0) or 1.0
    parts = []
    for row, (name, index, value, text) in enumerate(bars):
        y = 8 + row * ROW
        length = room * value / highest
        parts.append(
            f'<g class="method m{index} c{index % 8}"><text class="label" x="{beside - 8:g}" y="{y + 15:g}" '
            f'text-anchor="end">{escape(fitted(name, beside - 12))}</text>'
            f'<rect class="block" x="{beside:g}" y="{y + 2:g}" width="{length:.1f}" height="{ROW - 8:g}">'
            f"<title>{escape(f'{name}: {text}')}</title></rect>"
            f'<text class="tick" x="{beside + length + 5:.1f}" y="{y + 15:g}">{escape(text)}</text></g>'
        )
    height = 8 + len(bars) * ROW + 26
    middle = width / 2
    parts.append(f'<text class="title" x="{middle:g}" y="{height - 6:g}" text-anchor="middle">{escape(title)}</text>')
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
