"""Small plots as inline SVG: axes, lines, bands, points with intervals, direct labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

LEFT, TOP, BOTTOM = 52.0, 14.0, 42.0
LABEL_GAP = 13.0
LETTER = 8.8  # pixels that a letter of a label takes at most, nearly always
NARROW = 340.0
LEAST_ROOM, MOST_ROOM = 40.0, 0.34  # beside the plot for the names: pixels, share of the width
MARKERS = ("circle", "square", "diamond", "triangle", "cross", "wedge")


@dataclass(frozen=True)
class Point:
    """A value with its interval in one or both directions.

    Args:
        x: across.
        y: up.
        low: lower end of the interval of y; None for no bar.
        high: its upper end.
        left: lower end of the interval of x; None for no bar.
        right: its upper end.
        label: shown with the point.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    left: float | None = None
    right: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    """One method's points.

    Args:
        name: the method.
        index: its number, which decides colour and marker.
        points: in order along the line.
        line: draw a line through them.
        faint: draw it thin and without labels.
        band: draw the intervals as a band, not as bars.
        marks: draw the points.
    """

    name: str
    index: int
    points: Sequence[Point]
    line: bool = True
    faint: bool = False
    band: bool = False
    marks: bool = True


@dataclass(frozen=True)
class Figure:
    """A plot, or several of which the reader chooses one.

    Args:
        title: what it shows.
        note: how to read it.
        choices: for each choice: its label and its options.
        drawings: SVG by option of each choice.
        wide: takes a row of its own.
    """

    title: str
    note: str
    choices: list[tuple[str, list[str]]]
    drawings: dict[tuple[str, ...], str]
    wide: bool = False


@dataclass
class Plot:
    """A plot of series.

    Args:
        x_title: title of the horizontal axis.
        y_title: title of the vertical axis.
        width: of the drawing (pixels).
        height: of the drawing (pixels).
        log_x: horizontal axis in powers of two.
        ticks: where the horizontal axis has ticks; chosen here if None.
        from_zero: the vertical axis begins at zero.
    """

    x_title: str
    y_title: str
    width: float = 520.0
    height: float = 340.0
    log_x: bool = False
    ticks: Sequence[float] | None = None
    from_zero: bool = False
    series: list[Series] = field(default_factory=list)

    def draw(self) -> str:
        """Two SVG elements, of which the page shows the one that is legible in the room there is."""
        narrow = replace(self, width=NARROW, height=NARROW)
        return self.drawn("full") + narrow.drawn("narrow")

    def drawn(self, kind: str) -> str:
        """One SVG element.

        Args:
            kind: its class, beside ``plot``.
        """
        points = [point for one in self.series for point in one.points]
        xs = [value for p in points for value in (p.x, p.left, p.right) if value is not None]
        ys = [value for p in points for value in (p.y, p.low, p.high) if value is not None]
        frame = Frame(self, limits(xs, pad=0.04), limits(ys if not self.from_zero else [*ys, 0.0], pad=0.05))
        if self.from_zero and min(ys) >= 0:
            frame = Frame(self, frame.across, (0.0, frame.up[1]))
        parts = [frame.axes()]
        parts += [frame.series(one) for one in sorted(self.series, key=lambda one: not one.faint)]
        parts.append(frame.labels([one for one in self.series if not one.faint and one.points]))
        title = escape(f"{self.y_title} against {self.x_title}")
        return (
            f'<svg class="plot {kind}" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{title}">'
            f"{''.join(parts)}</svg>"
        )


def fitted(name: str, room: float) -> str:
    """A name, cut where it is longer than the room.

    Args:
        name: of a method.
        room: pixels.
    """
    most = max(int(room / LETTER), 2)
    return name if len(name) <= most else name[: most - 1] + "…"


def limits(values: Sequence[float], *, pad: float) -> tuple[float, float]:
    """A range that holds the values with some room; zeros alone lie at its foot, as shares and counts do."""
    low, high = min(values), max(values)
    if low == high == 0.0:
        return -pad, 1.0
    room = (high - low) * pad or abs(high) * 0.1 or 1.0
    return low - room, high + room


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within a range: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A tick in short: 12,000 as 12k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


class Frame:
    """Maps values to pixels and draws what stands inside one plot.

    Args:
        plot: what is drawn.
        across: least and largest x.
        up: least and largest y.
    """

    def __init__(self, plot: Plot, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.plot = plot
        self.across = across
        self.up = up
        longest = max((len(one.name) for one in plot.series if not one.faint), default=0)
        self.room = min(max(16 + LETTER * longest, LEAST_ROOM), MOST_ROOM * plot.width)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.across
        if self.plot.log_x:
            low, high, value = math.log2(max(low, 1.0)) - 0.15, math.log2(high), math.log2(value)
        return LEFT + (value - low) / (high - low) * (self.plot.width - LEFT - self.room)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.up
        return self.plot.height - BOTTOM - (value - low) / (high - low) * (self.plot.height - TOP - BOTTOM)

    def axes(self) -> str:
        """Grid, ticks and titles."""
        plot = self.plot
        right, bottom = plot.width - self.room, plot.height - BOTTOM
        parts = []
        for value in plot.ticks if plot.ticks is not None else nice_ticks(*self.across):
            x = self.x(value)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:g}" y2="{bottom:g}"/>')
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 15:g}" text-anchor="middle">{tick_text(value)}</text>'
            )
        for value in nice_ticks(*self.up):
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{tick_text(value)}</text>'
            )
        middle, centre = (LEFT + right) / 2, (TOP + bottom) / 2
        parts.append(f'<path class="frame" d="M{LEFT:g} {TOP:g}V{bottom:g}H{right:g}"/>')
        parts.append(
            f'<text class="title" x="{middle:g}" y="{plot.height - 8:g}" text-anchor="middle">'
            f"{escape(plot.x_title)}</text>"
        )
        parts.append(
            f'<text class="title" transform="translate(13 {centre:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(plot.y_title)}</text>"
        )
        return "".join(parts)

    def series(self, one: Series) -> str:
        """Band or bars, line and points of a method."""
        parts = []
        if one.band and all(p.low is not None for p in one.points):
            upper = [f"{self.x(p.x):.1f},{self.y(p.high or 0.0):.1f}" for p in one.points]
            lower = [f"{self.x(p.x):.1f},{self.y(p.low or 0.0):.1f}" for p in reversed(one.points)]
            parts.append(f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>')
        if one.line and len(one.points) > 1:
            path = " ".join(f"{self.x(p.x):.1f},{self.y(p.y):.1f}" for p in one.points)
            parts.append(f'<polyline class="{"path" if one.faint else "line"}" points="{path}"/>')
        for point in one.points:
            parts.append("" if one.band else self.bars(point))
            if one.marks:
                parts.append(self.mark(one, point))
        return f'<g class="method m{one.index} c{one.index % 8}">{"".join(parts)}</g>'

    def bars(self, p: Point) -> str:
        """The intervals of a point."""
        parts = []
        if p.low is not None and p.high is not None:
            x = self.x(p.x)
            parts.append(
                f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{self.y(p.low):.1f}" y2="{self.y(p.high):.1f}"/>'
            )
        if p.left is not None and p.right is not None:
            y = self.y(p.y)
            parts.append(
                f'<line class="bar" x1="{self.x(p.left):.1f}" x2="{self.x(p.right):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        return "".join(parts)

    def mark(self, one: Series, p: Point) -> str:
        """A point, with a tooltip."""
        kind = MARKERS[one.index % len(MARKERS)]
        shape = marker(kind, self.x(p.x), self.y(p.y), 2.4 if one.faint else 4.5)
        interval = f" [{p.low:.3g}, {p.high:.3g}]" if p.low is not None and p.high is not None else ""
        note = f"{one.name}{f', {p.label}' if p.label else ''}: {tick_text(p.x)}, {p.y:.3g}{interval}"
        return f"<g><title>{escape(note)}</title>{shape}</g>"

    def labels(self, known: Sequence[Series]) -> str:
        """The method's name beside its last point, moved apart where labels would touch."""
        above = [0.0 if one.line else LABEL_GAP for one in known]  # a lone mark is labelled above its interval
        wanted = sorted(
            ((self.y(one.points[-1].y) - lift, one) for one, lift in zip(known, above, strict=True)),
            key=lambda pair: pair[0],
        )
        lines = [one for _, one in wanted]
        places = spread([y for y, _ in wanted], LABEL_GAP, TOP + 4, self.plot.height - BOTTOM)
        parts = []
        for one, y in zip(lines, places, strict=True):
            last = one.points[-1]
            x0, y0 = self.x(last.x), self.y(last.y)
            x = self.plot.width - self.room + 8 if one.line else x0 + 8
            leader = f'<line class="leader" x1="{x0 + 5:.1f}" y1="{y0:.1f}" x2="{x - 2:.1f}" y2="{y:.1f}"/>'
            text = f'<text class="label" x="{x:.1f}" y="{y + 4:.1f}">{escape(fitted(one.name, self.room - 12))}</text>'
            parts.append(f'<g class="method m{one.index} c{one.index % 8}">{leader}{text}</g>')
        return "".join(parts)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved as little as is simple so that neighbours are a gap apart, within a range; in order.

    Args:
        places: in pixels.
        gap: least distance of neighbours, pixels.
        low: least place.
        high: largest place.
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap if moved else low))
    over = moved[-1] - high if moved else 0.0
    if over > 0:
        for i in range(len(moved) - 1, -1, -1):
            ceiling = high if i == len(moved) - 1 else moved[i + 1] - gap
            moved[i] = min(moved[i], ceiling)
    return moved


def marker(kind: str, x: float, y: float, size: float) -> str:
    """One mark: the shape tells methods apart where colours do not.

    Args:
        kind: one of ``MARKERS``.
        x: pixels from the left.
        y: pixels from the top.
        size: radius, pixels.
    """
    if kind == "circle":
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
        "triangle": ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
        "wedge": ((0, 1.2), (1.15, -0.9), (-1.15, -0.9)),
        "cross": (
            *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
            *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
        ),
    }[kind]
    path = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners)
    return f'<polygon class="mark" points="{path}"/>'
