"""Boards as SVG: pieces, the value of every move, and how often a player makes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lightning_gfn.endgames.positions import FILES, square_number
from lightning_gfn.endgames.tables import UNKNOWN

PIECE = re.compile(r"([KRk])([a-h][1-8])")
GLYPHS = {"K": "♔", "R": "♖", "k": "♚"}
SQUARE, GAP, SIDE, TOP = 26, 18, 14, 66
"""Pixels: a square, the space between boards, that for the names of ranks, and that above the first row of boards."""
LIGHT, DARK = "#f4f4f2", "#e3e3df"
BEST, SLOWER, LOST = "#b79ae8", "#d9cdf3", "#a9cbe8"
"""Colours of squares: reached by a move with the shortest mate, by a slower one, by one that gives the win away."""
ARROW = "#c0392b"
FAINT = 0.005
"""Shares below this are not drawn."""


@dataclass(frozen=True)
class Panel:
    """One board of a figure.

    Args:
        position: ``Kc3 Rh5 kd4``, with white to move.
        values: every legal move, mapped to the plies to mate after it, ``UNKNOWN`` where the win is lost.
        shares: how often each move is made; those that are not legal are told below the board.
    """

    position: str
    values: Mapping[str, int]
    shares: Mapping[str, float]

    @property
    def right(self) -> float:
        """Share of moves with the shortest mate."""
        shortest = min(self.values.values(), default=UNKNOWN)
        return sum(share for move, share in self.shares.items() if self.values.get(move) == shortest != UNKNOWN)

    @property
    def illegal(self) -> float:
        """Share of texts that are no legal move."""
        return sum(share for move, share in self.shares.items() if move not in self.values)


def boards_svg(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Panel]]]) -> str:
    """Draw boards side by side: a row for each position, a column for each player or temperature.

    Squares have the colour of the best move to them; an arrow made with share s has the opacity 0.15 + 0.85 s.

    Args:
        title: of the figure.
        columns: what stands above each column.
        rows: what stands above a row, and its boards.

    Returns:
        The text of an SVG file.
    """
    step_x, step_y = 8 * SQUARE + SIDE + GAP, 8 * SQUARE + 72
    width, height = len(columns) * step_x + GAP, TOP + len(rows) * step_y + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="DejaVu Sans, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(GAP, 22, title, size=15),
        *(_text(GAP + SIDE + c * step_x, 50, name, size=13) for c, name in enumerate(columns)),
    ]
    for r, (name, panels) in enumerate(rows):
        top = TOP + r * step_y
        parts.append(_text(GAP, top + 12, name))
        for c, panel in enumerate(panels):
            parts.append(f'<g transform="translate({GAP + c * step_x},{top + 20})">{"".join(_board(panel))}</g>')
    parts += [_legend(height - 12), "</svg>"]
    return "\n".join(parts) + "\n"


def _board(panel: Panel) -> list[str]:
    colours = _colours(panel.values)
    parts = []
    for square in range(64):
        rank, file = divmod(square, 8)
        colour = colours.get(square, DARK if (rank + file) % 2 == 0 else LIGHT)
        x, y = _corner(square)
        parts.append(f'<rect x="{x}" y="{y}" width="{SQUARE}" height="{SQUARE}" fill="{colour}" stroke="white"/>')
    for number in range(8):
        parts.append(_text(1, (7.7 - number) * SQUARE, str(number + 1), size=9))
        parts.append(_text(SIDE + (number + 0.4) * SQUARE, 8 * SQUARE + 10, FILES[number], size=9))
    for piece, name in PIECE.findall(panel.position):
        x, y = _corner(square_number(name))
        parts.append(_text(x + SQUARE / 2, y + 0.8 * SQUARE, GLYPHS[piece], size=22, anchor="middle"))
    made = sorted(panel.shares.items(), key=lambda item: item[1])
    parts += [_arrow(move, share) for move, share in made if move in panel.values and share >= FAINT]
    told = f"shortest mate {panel.right:.2f}" + (f", not legal {panel.illegal:.2f}" if panel.illegal >= FAINT else "")
    return [*parts, _text(SIDE, 8 * SQUARE + 26, told)]


def _colours(values: Mapping[str, int]) -> dict[int, str]:
    """The colour of each square that a move leads to, of the best of them."""
    shortest, best = min(values.values(), default=UNKNOWN), dict[int, int]()
    for move, plies in values.items():
        target = square_number(move[2:])
        best[target] = min(plies, best.get(target, UNKNOWN))
    return {
        square: LOST if plies == UNKNOWN else BEST if plies == shortest else SLOWER for square, plies in best.items()
    }


def _arrow(move: str, share: float) -> str:
    """A line with a head from the middle of a square to that of another."""
    (x1, y1), (x2, y2) = (
        [place + SQUARE / 2 for place in _corner(square_number(name))] for name in (move[:2], move[2:])
    )
    long = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    dx, dy = (x2 - x1) / long, (y2 - y1) / long
    neck_x, neck_y = x2 - 9 * dx, y2 - 9 * dy
    head = f"{x2:.1f},{y2:.1f} {neck_x - 5 * dy:.1f},{neck_y + 5 * dx:.1f} {neck_x + 5 * dy:.1f},{neck_y - 5 * dx:.1f}"
    return (
        f'<g opacity="{0.15 + 0.85 * share:.3f}"><title>{escape(move)} {share:.3f}</title>'
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{neck_x:.1f}" y2="{neck_y:.1f}" stroke="{ARROW}" stroke-width="4"/>'
        f'<polygon points="{head}" fill="{ARROW}"/></g>'
    )


def _middle(name: str) -> tuple[float, float]:
    x, y = _corner(square_number(name))
    return x + SQUARE / 2, y + SQUARE / 2


def _corner(square: int) -> tuple[float, float]:
    rank, file = divmod(square, 8)
    return SIDE + file * SQUARE, (7 - rank) * SQUARE


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(y: float) -> str:
    parts, x = [], float(GAP)
    for colour, name in ((BEST, "shortest mate"), (SLOWER, "slower mate"), (LOST, "gives the win away")):
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>' + _text(x + 17, y, name))
        x += 34 + 7 * len(name)
    return "".join(parts) + _text(x, y, "opacity of an arrow: how often the move is made")
