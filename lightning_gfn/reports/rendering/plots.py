"""The plots of the page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.curves import TRAIN, Curve, learning_curves
from lightning_gfn.reports.rendering.bars import draw_bars
from lightning_gfn.reports.rendering.svg import Figure, Plot, Point, Series
from lightning_gfn.reports.rendering.targets import log_calibration, sample_calibration, target_distribution
from lightning_gfn.reports.statistics.bootstrap import Interval
from lightning_gfn.reports.statistics.cube import ACCURACY, DISTINCT
from lightning_gfn.reports.titles import EFFICIENCY, axis_title, cost_text, metric_title


def point(x: float, y: Interval, label: str = "") -> Point:
    """A value with its vertical interval."""
    return Point(x, y.value, y.low, y.high, label=label)


def plane(c: Comparison) -> Figure | None:
    """Quality against diversity, with the path over temperatures: of solve rate and distinct-correct, or of samples."""
    if not c.planes:
        return None
    titles = {pair: f"{metric_title(pair[1])} against {metric_title(pair[0])}" for pair in c.planes}
    drawings: dict[tuple[str, ...], str] = {(titles[pair],): plane_plot(c, *pair) for pair in c.planes}
    note = f"Large marks: temperature {c.cube.temperature:g}, with 95% intervals."
    if c.own_decoding:
        note = "A mark is a method with its own decoding; 95% intervals."
    elif any(on_grid(c, across) and on_grid(c, up) for across, up in c.planes):
        note += " Thin lines: each method over all its temperatures (point at a mark for its temperature)."
    judged = c.planes[0][0] == ACCURACY
    title = "Accuracy against distinct correct solutions" if judged else "Likelihood against diversity"
    if len(drawings) == 1:
        return Figure(title, note, [], only(drawings), wide=True)
    return Figure(title, note, [("shown", list(titles.values()))], drawings, wide=True)


def on_grid(c: Comparison, metric: str) -> bool:
    """True if every method has a metric at every temperature."""
    return len(c.grid) > 1 and all(metric in row for table in c.grid.values() for row in table.values())


def plane_plot(c: Comparison, across: str, up: str) -> str:
    """One point a method with both intervals, and its path over temperatures.

    Args:
        c: what was found.
        across: metric of the horizontal axis.
        up: metric of the vertical axis.
    """
    plot = Plot(metric_title(across), metric_title(up), width=940, height=520)
    for index, name in enumerate(c.methods):
        if on_grid(c, across) and on_grid(c, up):
            steps = [(t, table[name]) for t, table in sorted(c.grid.items())]
            path = [Point(row[across].value, row[up].value, label=f"T = {t:g}") for t, row in steps]
            plot.series.append(Series(name, index, path, faint=True))
        measured = c.measured(name)
        x, y = measured[across], measured[up]
        label = c.own_decoding.get(name, f"T = {c.cube.temperature:g}")
        mark = Point(x.value, y.value, y.low, y.high, x.low, x.high, label)
        plot.series.append(Series(name, index, [mark], line=False))
    return plot.draw()


def pass_curves(c: Comparison) -> Figure | None:
    """pass@k against k."""
    if not all(c.pass_curve.values()):
        return None
    ks = list(next(iter(c.pass_curve.values())))
    plot = Plot("k (samples)", "pass@k", log_x=True, ticks=ks)
    for index, (name, curve) in enumerate(c.pass_curve.items()):
        plot.series.append(Series(name, index, [point(k, x) for k, x in curve.items()], band=True))
    note = "Share of problems with a right answer among k samples (unbiased estimate)."
    return Figure("pass@k", note, [], {(): plot.draw()})


def thresholds(c: Comparison) -> Figure | None:
    """Distinct-correct against the ROUGE-L threshold, for each rule of counting."""
    rules: dict[str, dict[str, list[Point]]] = {}
    for name in c.methods:
        for metric, x in c.measured(name).items():
            if match := DISTINCT.fullmatch(metric):
                rule = rules.setdefault(match[2] or "greedy", {})
                rule.setdefault(name, []).append(point(float(match[1]), x))
    drawings: dict[tuple[str, ...], str] = {}
    for kind, curves in rules.items():
        plot = Plot("ROUGE-L threshold (different if below)", "distinct correct", from_zero=True)
        for index, name in enumerate(c.methods):
            plot.series.append(Series(name, index, sorted(curves[name], key=lambda p: p.x), band=True))
        plot.ticks = [p.x for p in plot.series[0].points]
        drawings[kind,] = plot.draw()
    if not drawings:
        return None
    note = f"Solutions of {c.decoding['num_samples']} samples that count as different. Rules: greedy in order of "
    note += "generation, expected over all orders, connected components."
    choices = [("rule", list(rules))] if len(rules) > 1 else []
    return Figure("Distinct correct against threshold", note, choices, drawings if choices else only(drawings))


def only(drawings: Mapping[tuple[str, ...], str]) -> dict[tuple[str, ...], str]:
    """A single drawing, without a choice."""
    return {(): next(iter(drawings.values()))}


def temperatures(c: Comparison) -> Figure | None:
    """Each headline metric against temperature."""
    metrics = list(next(iter(next(iter(c.grid.values())).values())))
    if len(c.grid) < 2 or not metrics:
        return None
    order = [c.diversity, *(m for m in metrics if m != c.diversity)] if c.diversity in metrics else metrics
    drawings: dict[tuple[str, ...], str] = {}
    for metric in filter(None, order):
        plot = Plot("temperature", metric_title(metric), ticks=sorted(c.grid))
        for index, name in enumerate(c.methods):
            line = [point(t, table[name][metric]) for t, table in sorted(c.grid.items())]
            plot.series.append(Series(name, index, line, band=True))
        drawings[metric_title(metric),] = plot.draw()
    choices = [("metric", [key[0] for key in drawings])]
    return Figure("Against temperature", "Bands: 95% intervals.", choices, drawings)


def curve_series(name: str, index: int, curve: Curve) -> Series:
    """A learning curve with the range of its seeds."""
    columns = zip(curve.x, curve.mean, curve.low, curve.high, strict=True)
    points = [Point(float(x), float(y), float(low), float(high)) for x, y, low, high in columns]
    return Series(name, index, points, band=bool(np.any(curve.high > curve.low)), marks=len(points) <= 12)


def learning(c: Comparison) -> Figure | None:
    """Learning curves for each figure and axis."""
    found = learning_curves(c)
    # The figure that most methods have stands first.
    table = dict(sorted(found.items(), key=lambda item: -max(map(len, item[1].values()))))
    drawings: dict[tuple[str, ...], str] = {}
    titles = {key: curve_title(key) for key in table}
    axes: dict[str, None] = {}
    for key, by_axis in table.items():
        for axis, curves in by_axis.items():
            plot = Plot(axis_title(axis), titles[key], width=940, height=400)
            for index, name in enumerate(c.methods):
                if name in curves:
                    plot.series.append(curve_series(name, index, curves[name]))
            axes[axis_title(axis)] = None
            drawings[titles[key], axis_title(axis)] = plot.draw()
    if not drawings:
        return None
    note = "Mean over seeds; bands: lowest to highest seed. Costs include earlier stages that a run names. "
    note += "The training solve rate is a running mean of five logged values. "
    note += "A method that spends nothing on an axis has no curve there."
    choices = [("figure", list(titles.values())), ("against", list(axes))]
    return Figure("Learning curves", note, choices, drawings, wide=True)


def curve_title(key: str) -> str:
    """A logged figure in words."""
    if key == TRAIN:
        return "solve rate of training samples"
    return f"{metric_title(key.removeprefix('val/'))}, validation"


def costs(c: Comparison) -> Figure | None:
    """What training spent, by axis."""
    drawings: dict[tuple[str, ...], str] = {}
    for axis in c.spending.equalised:
        bars = [
            (name, index, spent[axis], cost_text(spent[axis]))
            for index, name in enumerate(c.methods)
            if axis in (spent := c.spending.methods.get(name, {}))
        ]
        drawings[axis_title(axis),] = draw_bars(axis_title(axis), bars)
    if not drawings:
        return None
    return Figure("Cost of training", "Mean over seeds.", [("axis", [key[0] for key in drawings])], drawings)


def efficiency(c: Comparison) -> Figure | None:
    """Each headline metric at the end against what training took for it."""
    drawings: dict[tuple[str, ...], str] = {}
    for metric in c.metrics:
        for axis in (*EFFICIENCY, "reward_calls", "gradient_tokens"):
            spent = {name: found[axis] for name, found in c.spending.methods.items() if found.get(axis, 0.0) > 0.0}
            if not spent:
                continue
            wide = max(spent.values()) > 20 * min(spent.values())
            plot = Plot(axis_title(axis), metric_title(metric), log_x=wide)
            if wide:
                steps = (m * 10**k for k in range(13) for m in (1, 3))
                plot.ticks = [float(tick) for tick in steps if min(spent.values()) <= tick <= max(spent.values())]
            for index, name in enumerate(c.methods):
                if name in spent:
                    plot.series.append(Series(name, index, [point(spent[name], c.headline[name][metric])], line=False))
            drawings[metric_title(metric), axis_title(axis)] = plot.draw()
    if not drawings:
        return None
    note = "The trained model of each method, mean over seeds with 95% intervals. Costs include earlier stages that a "
    note += "run names. A method that spends nothing on an axis has no mark there; see also the learning curves."
    choices = [("metric", list(dict.fromkeys(key[0] for key in drawings)))]
    choices.append(("against", list(dict.fromkeys(key[1] for key in drawings))))
    return Figure("Sample efficiency", note, choices, drawings)


def figures(c: Comparison) -> list[Figure]:
    """Every plot that the runs have the data for."""
    exact = [target_distribution(c), log_calibration(c), sample_calibration(c)]
    found = [*exact, plane(c), pass_curves(c), thresholds(c), temperatures(c), efficiency(c), costs(c), learning(c)]
    return [figure for figure in found if figure is not None]
