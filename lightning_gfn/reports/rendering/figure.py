"""The comparison as one figure: accuracy against diversity, diversity by threshold, and each metric by method."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.rendering.canvas import new_figure, save_figure
from lightning_gfn.reports.statistics.bootstrap import Interval
from lightning_gfn.reports.statistics.cube import ACCURACY
from lightning_gfn.reports.titles import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    "#4c72b0",
    "#dd8452",
    "#55a868",
    "#c44e52",
    "#8172b3",
    "#937860",
    "#da8bc3",
    "#8c8c8c",
    "#ccb974",
    "#64b5cd",
    "#2f2f2f",
    "#1b7837",
)
TITLE_WIDTH = 24  # letters of a panel's title in one line
EXPERT = "best_expert"
"""Metric of the best of the experts that taught a model."""
THRESHOLD = re.compile(r"distinct_correct_rouge_([\d.]+)")


def spread(x: Interval) -> list[list[float]]:
    """Lengths of the two arms of an error bar; a percentile interval may leave out its mean: then 0."""
    return [[max(0.0, x.value - x.low)], [max(0.0, x.high - x.value)]]


def draw_plane(axes: Axes, comparison: Comparison, colours: dict[str, str], metrics: tuple[str, str]) -> None:
    """One point a method with both intervals."""
    across, up = metrics
    for name in comparison.methods:
        x, y = comparison.measured(name)[across], comparison.measured(name)[up]
        axes.errorbar(
            x.value, y.value, xerr=spread(x), yerr=spread(y), fmt="o", ms=8, capsize=3, color=colours[name], label=name
        )
    axes.set_xlabel(metric_title(across))
    axes.set_ylabel(metric_title(up))
    axes.set_title("Accuracy against diversity" if across == ACCURACY else "Likelihood against diversity")
    axes.margins(0.12)


def threshold_curve(comparison: Comparison, name: str) -> list[tuple[float, Interval]]:
    """Greedy distinct-correct of a method at each ROUGE-L threshold."""
    known = {**comparison.headline[name], **comparison.further[name]}
    matches = ((THRESHOLD.fullmatch(metric), x) for metric, x in known.items())
    return sorted(((float(match[1]), x) for match, x in matches if match), key=lambda point: point[0])


def draw_thresholds(axes: Axes, comparison: Comparison, colours: dict[str, str]) -> None:
    """Distinct-correct against the threshold below which two solutions count as different."""
    for name in comparison.headline:
        curve = threshold_curve(comparison, name)
        thresholds = [threshold for threshold, _ in curve]
        axes.plot(thresholds, [x.value for _, x in curve], marker="o", color=colours[name], label=name)
        axes.fill_between(
            thresholds,
            [x.low for _, x in curve],
            [x.high for _, x in curve],
            color=colours[name],
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xlabel("ROUGE-L threshold (different if below)")
    axes.set_ylabel(f"distinct correct of {comparison.decoding['num_samples']}")
    axes.set_title("Diversity by threshold")


def draw_bars(axes: Axes, comparison: Comparison, colours: dict[str, str], metric: str) -> None:
    """A bar a method with its interval and its value."""
    names = list(comparison.headline)
    for position, name in enumerate(names):
        x = comparison.headline[name][metric]
        axes.barh(position, x.value, xerr=spread(x), color=colours[name], height=0.7, capsize=3, ecolor="#333333")
        axes.annotate(
            f"{x.value:.2f}",
            (max(x.high, x.value, 0.0), position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    highest = max(row[metric].high for row in comparison.headline.values())
    lowest = min(row[metric].low for row in comparison.headline.values())
    room = 0.25 * max(highest, -lowest, 1e-6)  # for the figures beside the bars
    axes.set_xlim(min(0.0, lowest * 1.05), max(highest, 0.0) + room)
    axes.set_yticks(range(len(names)), names)
    lines = metric_title(metric).replace(" (", "\n(").split("\n")
    axes.set_title("\n".join(part for line in lines for part in wrap(line, TITLE_WIDTH)), fontsize="medium")


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the figure and save it as PNG.

    Args:
        comparison: what was found.
        path: file to write.
    """
    metrics = list(next(iter(comparison.headline.values())))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(comparison.headline)}
    figure = new_figure(2.9 * max(len(metrics), 4), 4.6 + 1.4 + 0.34 * len(colours))
    halves = figure.add_gridspec(2, 1, height_ratios=[4.6, 1.4 + 0.34 * len(colours)])
    plane, curve = figure.add_subfigure(halves[0]).subplots(1, 2)
    planes = comparison.planes if comparison.planes else [(metrics[0], metrics[-1])]
    draw_plane(plane, comparison, colours, planes[0])
    if threshold_curve(comparison, comparison.methods[0]):
        draw_thresholds(curve, comparison, colours)
    else:
        draw_plane(curve, comparison, colours, planes[-1])
    curve.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels = figure.add_subfigure(halves[1]).subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        draw_bars(axes, comparison, colours, metric)
    panels[0].invert_yaxis()  # which all panels share, as they do the methods' names
    for axes in (plane, curve, *panels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    save_figure(figure, path)


def draw_temperatures(comparison: Comparison, path: Path) -> None:
    """Draw solve rate against temperature, a line a method with its interval, and save it as PNG.

    Where models were taught by experts, a dashed line shows the solve rate of the best of them.

    Args:
        comparison: what was found, at several temperatures.
        path: file to write.
    """
    figure = new_figure(8.6, 4.6)
    axes = figure.subplots()
    grid = sorted(comparison.grid.items())
    heat = [temperature for temperature, _ in grid]
    for index, name in enumerate(comparison.methods):
        curve, colour = [table[name][ACCURACY] for _, table in grid], COLOURS[index % len(COLOURS)]
        axes.plot(heat, [x.value for x in curve], marker="o", color=colour, label=name)
        axes.fill_between(heat, [x.low for x in curve], [x.high for x in curve], color=colour, alpha=0.15, linewidth=0)
    experts: dict[float, str] = {}
    for index, row in enumerate(comparison.further.values()):
        if EXPERT in row:
            experts.setdefault(row[EXPERT].value, COLOURS[index % len(COLOURS)])
    for value, colour in sorted(experts.items()):
        own = colour if len(experts) > 1 else "#333333"  # several sets of experts: each in the colour of its model
        axes.axhline(value, color=own, linestyle="--", linewidth=1, label=f"best expert ({value:.2f})")
    axes.set_xlabel("temperature")
    axes.set_ylabel(metric_title(ACCURACY))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)
