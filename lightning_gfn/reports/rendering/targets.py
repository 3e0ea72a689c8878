"""Figures of exactness: what each method gives the completions of a target, and log q against log R."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.rendering.svg import Figure, Plot, Point, Series

MOST_PROBLEMS = 12
"""Problems that a reader can choose among."""
MOST_SAMPLES = 200
"""Points of a method, chosen evenly among its samples."""

Table = Mapping[str, Sequence[float]]
"""Log weight under the target and log-probability under the policy, by completion."""


def targets_of(c: Comparison) -> dict[str, dict[str, list[Table]]]:
    """Problem → method → the table of each seed, for problems whose target every run was scored on."""
    found: dict[str, dict[str, list[Table]]] = {}
    problems = [name for name, row in c.first_run.samples.items() if row.get("target")]
    for problem in problems:
        tables = {
            name: [run.samples[problem].get("target") or {} for run in runs] for name, runs in c.cube.groups.items()
        }
        if all(len(table) > 1 for group in tables.values() for table in group):
            found[problem] = tables
        if len(found) == MOST_PROBLEMS:
            break
    return found


def places(texts: Sequence[str]) -> list[float]:
    """Where each completion stands: at its number, if all are numbers, else in order."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return [float(number) for number in range(len(texts))]


KINDS = ("probability", "log₂ (probability / target)")


def target_distribution(c: Comparison) -> Figure | None:
    """What the target and each method give every completion of the target, as it is and beside the target."""
    drawings: dict[tuple[str, ...], str] = {}
    for problem, groups in targets_of(c).items():
        for kind in KINDS:
            drawings[problem, kind] = distribution_plot(groups, kind).draw()
    if not drawings:
        return None
    problems = list(dict.fromkeys(key[0] for key in drawings))
    choices = [("shown", list(KINDS))]
    if len(problems) > 1:
        choices.insert(0, ("problem", problems))
    else:
        drawings = {key[1:]: drawing for key, drawing in drawings.items()}
    note = "Exact, by scoring every completion. Mean over seeds; bands: lowest to highest seed. On the logarithmic "
    note += "scale the target is 0, and −1 is half of its probability."
    return Figure("Target and policy", note, choices, drawings, wide=True)


def distribution_plot(groups: Mapping[str, Sequence[Table]], kind: str) -> Plot:
    """The curves of one problem.

    Args:
        groups: method → the table of each seed.
        kind: of ``KINDS``.
    """
    first = next(iter(groups.values()))[0]
    order = sorted(zip(places(list(first)), first, strict=True))
    log_z = math.log(math.fsum(math.exp(weight) for weight, _ in first.values()))
    plain = kind == KINDS[0]
    plot = Plot("completion", kind, width=940, height=420, from_zero=plain)

    def shown(log_q: float, text: str) -> float:
        return math.exp(log_q) if plain else (log_q - first[text][0] + log_z) / math.log(2.0)

    for index, (name, tables) in enumerate(groups.items()):
        points = []
        for x, text in order:
            values = [shown(table[text][1], text) for table in tables]
            points.append(Point(x, math.fsum(values) / len(values), min(values), max(values)))
        plot.series.append(Series(name, index, points, band=len(tables) > 1, marks=False))
    wanted = [Point(x, shown(first[text][0] - log_z, text)) for x, text in order]
    plot.series.append(Series("target", len(groups), wanted, marks=False))
    return plot


def log_calibration(c: Comparison) -> Figure | None:
    """Log q of every completion of the targets against its log R; the target is a line of slope 1."""
    plot = Plot("log R − log Z (nats)", "log q (nats)", width=520, height=420)
    values: list[float] = []
    by_method: dict[str, list[Point]] = {name: [] for name in c.methods}
    for groups in targets_of(c).values():
        for name, tables in groups.items():
            log_z = math.log(math.fsum(math.exp(weight) for weight, _ in tables[0].values()))
            for text, (weight, _) in tables[0].items():
                log_q = math.fsum(table[text][1] for table in tables) / len(tables)
                by_method[name].append(Point(weight - log_z, log_q))
                values.append(weight - log_z)
    if not values or max(values) - min(values) < 1e-6:  # of a uniform target all points stand above one another
        return None
    for index, (name, points) in enumerate(by_method.items()):
        plot.series.append(Series(name, index, points, line=False))
    line = [Point(x, x) for x in (min(values), max(values))]
    plot.series.append(Series("target", len(by_method), line, marks=False))
    note = "A point is a completion. On the line its probability is the target's; a line of slope 1 below it is a "
    note += "policy with the right proportions that also produces what the target does not know."
    return Figure("log q against log R", note, [], {(): plot.draw()})


def sample_calibration(c: Comparison) -> Figure | None:
    """Log q of samples against their log R, both less their means over the problem's samples: slope 1 is exact."""
    plot = Plot("log R less its mean (nats)", "log q less its mean (nats)", width=520, height=420)
    values: list[float] = []
    for index, (name, runs) in enumerate(c.cube.groups.items()):
        points = [point for problem in c.cube.problems for point in centred(runs[0].samples[problem])]
        points = points[:: -(-len(points) // MOST_SAMPLES)] if points else points
        values += [point.x for point in points]
        plot.series.append(Series(name, index, points, line=False))
    if not values or max(values) - min(values) < 1e-6 or not all(one.points for one in plot.series):
        return None
    line = [Point(x, x) for x in (min(values), max(values))]
    plot.series.append(Series("target", len(c.methods), line, marks=False))
    note = "A point is a sample of the first seed; q is the policy at temperature 1, however it was decoded. Means are "
    note += "taken within a problem, since its log Z is not known. On the line q is proportional to R; base samples "
    note += "of a reward p^(1/T) lie on a line of slope T."
    return Figure("log q against log R, of samples", note, [], {(): plot.draw()})


def centred(row: Mapping[str, Any]) -> list[Point]:
    """The samples of a problem, its means taken off; none where they have no log rewards."""
    weights, log_probs = row.get("log_rewards") or (), row.get("log_probs") or ()
    if len(weights) < 2:
        return []
    across, up = math.fsum(weights) / len(weights), math.fsum(log_probs) / len(log_probs)
    return [Point(x - across, y - up) for x, y in zip(weights, log_probs, strict=True)]
