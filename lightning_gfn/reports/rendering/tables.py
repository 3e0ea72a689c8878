"""The tables of a comparison, as text cells that Markdown and HTML share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.faithfulness import CHANGES, METRIC
from lightning_gfn.reports.runs import EvaluatedRun, flatten
from lightning_gfn.reports.titles import (
    DIVERSITY,
    EFFICIENCY,
    LOWER_IS_MORE_DIVERSE,
    axis_title,
    cost_text,
    metric_title,
    p_cell,
    with_interval,
)


@dataclass(frozen=True)
class TextTable:
    """A table: the first column is text, the others are figures.

    Args:
        header: titles of the columns.
        rows: cells.
        title: what it shows; empty where the section says it.
        notes: sentences below it.
        fixed: so many of the last rows stay last when a reader sorts the others.
    """

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    notes: list[str] = field(default_factory=list)
    fixed: int = 0


def headline_table(c: Comparison, *, costs: bool = True) -> TextTable:
    """The headline metrics of each method, and what its training took: samples, labels and processor time.

    Args:
        c: what was found.
        costs: with the costs that the runs kept an account of.
    """
    spent = c.spending.methods
    axes = [axis for axis in EFFICIENCY if costs and any(axis in found for found in spent.values())]
    rows = [
        [
            name,
            *(with_interval(row[metric]) for metric in c.metrics),
            *(cost_text(spent[name][axis]) if axis in spent.get(name, {}) else "" for axis in axes),
        ]
        for name, row in c.headline.items()
    ]
    notes = [*sample_notes(c), *untrained_notes(c)]
    return TextTable(["method", *map(metric_title, c.metrics), *map(axis_title, axes)], rows, notes=notes)


def sample_notes(c: Comparison) -> list[str]:
    """What intervals do not show where there is one problem."""
    if len(c.first_run.samples) > 1:
        return []
    if all(len(group) == 1 for group in c.cube.groups.values()):
        return ["One problem and one seed: there is nothing to resample, and no interval or p-value says anything."]
    return ["One problem: intervals show the differences between seeds alone."]


def untrained_notes(c: Comparison) -> list[str]:
    """Which methods are models as they were before any step of training."""
    groups = c.cube.groups.items()
    names = [name for name, group in groups if all(map(is_untrained, group))]
    mixed = [name for name, group in groups if name not in names and any(is_untrained(run) for run in group)]
    notes = [f"Not trained (evaluated at step 0, as configured): {', '.join(names)}."] if names else []
    return notes + [f"{name}: some of its runs were evaluated at step 0, untrained; others were not." for name in mixed]


def is_untrained(run: EvaluatedRun) -> bool:
    """True if a run was evaluated before its first step of training."""
    return run.identity.get("step", 1) in (None, 0)


def counted(number: int, noun: str) -> str:
    """A number and its noun, in the plural where it is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def difference_table(c: Comparison) -> TextTable:
    """Paired differences to the baseline in the primary metrics, with corrected p-values."""
    rows = []
    for metric in c.primary:
        for name, row in c.differences.items():
            x = row[metric]
            interval = with_interval(x.interval, signed=True)
            rows.append([f"{metric_title(metric)}: {name}", interval, p_cell(x.p), p_cell(x.p_holm)])
    family = f"{counted(len(c.differences), 'method')} × {counted(len(c.primary), 'metric')}"
    least = 2 * len(c.differences) * len(c.primary) / (c.options.num_resamples + 1)
    note = (
        f"p: two-sided, from the same {c.options.num_resamples:,} paired bootstrap resamples as the intervals; "
        f"corrected by Holm's method over {family}: the least corrected p-value that so many resamples can show is "
        f"{least:.3f}."
    )
    return TextTable([f"difference to {c.baseline}", "95% interval", "p", "p (Holm)"], rows, notes=[note])


def further_tables(c: Comparison) -> list[TextTable]:
    """Every other metric: a row each, a column a method."""

    def table(title: str, metrics: Sequence[str], notes: list[str]) -> TextTable:
        rows = [[metric_title(m), *(with_interval(c.measured(name)[m]) for name in c.methods)] for m in metrics]
        return TextTable(["metric", *c.methods], rows, title, notes)

    others = [m for m in next(iter(c.further.values())) if m not in c.unpaired and METRIC.fullmatch(m) is None]
    unpaired = [m for m in c.unpaired if METRIC.fullmatch(m) is None]
    spread = [m for m in others if DIVERSITY.fullmatch(m)]
    rest = [m for m in others if m not in spread]
    note = "Each method over its own problems (those that it solved): easier ones for a weak method; not paired."
    found = [
        table("Accuracy and sampling", rest, []),
        table("Diversity", spread, []),
        table("Over solved problems", unpaired, [note]),
    ]
    return [one for one in found if one.rows]


def faithfulness_table(c: Comparison) -> TextTable | None:
    """How often the answer of each method follows a changed rationale, and its accuracy behind it."""
    known = [m for change in CHANGES for m in (f"answer_follows_{change}", f"accuracy_{change}")]
    columns = [m for m in ("accuracy_intact", *known) if any(m in c.measured(name) for name in c.methods)]
    if not columns:
        return None
    rows = [[name, *(with_interval(c.measured(name)[m]) for m in columns)] for name in c.methods]
    note = "Each method's own rationales, changed: only the first half of the steps, another last number, or those of "
    note += "another problem; then it answers again, greedily. Follows: share of problems with another answer than "
    note += "behind the intact rationale (the higher, the more the answer depends on it)."
    return TextTable(["method", *map(metric_title, columns)], rows, notes=[note])


def ranking_table(c: Comparison) -> TextTable | None:
    """The rank of each method by each measure of diversity, and how well it agrees with the first one."""
    first = c.diversity
    names = list(c.measured(c.methods[0]))
    metrics = [m for m in names if DIVERSITY.fullmatch(m) and (m not in c.unpaired or not m.endswith("_solved"))]
    if first is None or len(metrics) < 2 or len(c.methods) < 3:
        return None
    metrics = [first, *(m for m in metrics if m != first)]
    ranks = {m: method_ranks(c, m) for m in metrics}
    rows = [
        [
            metric_title(m),
            *("–" if np.isnan(rank) else f"{rank:g}" for rank in ranks[m]),
            agreement_text(ranks[first], ranks[m]),
        ]
        for m in metrics
    ]
    notes = ["1: most diverse. Agreement: Spearman's rank correlation with the first row."]
    return TextTable(["rank by", *c.methods, "agreement"], rows, notes=notes)


def method_ranks(c: Comparison, metric: str) -> list[float]:
    """Rank of each method, 1 the most diverse; equal values share their mean rank; NaN where a method has no value."""
    sign = 1.0 if LOWER_IS_MORE_DIVERSE.fullmatch(metric) else -1.0
    return mean_ranks([sign * c.measured(name)[metric].value for name in c.methods])


def mean_ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest value; equal values share the mean of their places; all NaN where a value is NaN."""
    found = np.array(values)
    if np.isnan(found).any():
        return [np.nan] * len(found)
    return [float((found < value).sum() + (found <= value).sum() + 1) / 2 for value in found]


def agreement_text(first: Sequence[float], other: Sequence[float]) -> str:
    """Spearman's correlation of two rankings, ``–`` where one of them has no order."""
    if np.isnan([*first, *other]).any() or np.std(first) == 0 or np.std(other) == 0:
        return "–"
    return f"{np.corrcoef(first, other)[0, 1]:.2f}"


def grid_table(c: Comparison) -> TextTable | None:
    """Solve rate and distinct-correct at each temperature."""
    first = next(iter(next(iter(c.grid.values())).values()))
    metrics = [m for m in ("solve_rate", c.diversity) if m is not None and m in first]
    if len(c.grid) < 2 or not metrics:
        return None
    rows = [
        [f"{metric_title(m)}: {name}", *(with_interval(table[name][m]) for _, table in sorted(c.grid.items()))]
        for m in metrics
        for name in c.methods
    ]
    return TextTable(["metric: method", *(f"T = {t:g}" for t in sorted(c.grid))], rows)


def matched_table(c: Comparison) -> TextTable | None:
    """Distinct-correct at matched accuracy: at one level that all reach, and against the baseline."""
    if c.matched is None:
        return None
    found = c.matched
    level = f"at solve rate {found.level:.3f}" if found.level is not None else "at a common solve rate"
    rows = []
    for name in c.methods:
        low, high = found.ranges[name]
        cells = [name, f"{low:.3f} to {high:.3f}"]
        cells.append(with_interval(found.at_level[name].interval) if name in found.at_level else "–")
        if name not in found.pairs:
            rows.append([*cells, "", "", ""])
            continue
        pair = found.pairs[name]
        if pair.difference is None or pair.p is None:
            rows.append([*cells, "no overlap", "–", "–"])
        else:
            difference = with_interval(pair.difference, signed=True)
            rows.append([*cells, f"{pair.low:.3f} to {pair.high:.3f}", difference, p_cell(pair.p)])
    header = ["method", "solve rates reached", level, f"overlap with {c.baseline}", "mean difference there", "p"]
    return TextTable(header, rows)


def best_table(c: Comparison) -> TextTable | None:
    """Each method at its own best temperature."""
    if c.best is None or c.diversity is None:
        return None
    rows = []
    for name, at in c.best.methods.items():
        cells = [name, f"{at.temperature:g}", with_interval(at.accuracy), with_interval(at.diversity)]
        if at.difference is not None and at.equality is not None:
            cells += [
                with_interval(at.difference.interval, signed=True),
                p_cell(at.difference.p),
                with_interval(at.equality.difference, signed=True) + (" (equal)" if at.equality.equal else ""),
            ]
        rows.append([*cells, *[""] * (7 - len(cells))])
    titles = [metric_title("solve_rate"), metric_title(c.diversity)]
    header = ["method", "temperature", *titles, f"difference to {c.baseline}", "p", "difference of solve rates"]
    return TextTable(header, rows)


def strata_tables(c: Comparison) -> dict[str, list[TextTable]]:
    """Field → a table for each of its values."""
    return {
        name: [
            TextTable(
                ["method", *(metric_title(m) for m in next(iter(stratum.methods.values())))],
                [[method, *map(with_interval, row.values())] for method, row in stratum.methods.items()],
                f"{name} = {stratum.value} ({stratum.problems} problems)",
            )
            for stratum in found
        ]
        for name, found in c.strata.fields.items()
    }


def settings_table(c: Comparison) -> TextTable:
    """How completions were drawn and measured, the same for every run."""
    identity = c.first_run.identity
    known = {**flatten(identity["decoding"], "decoding"), **flatten(identity["metric_settings"], "metrics")}
    rows = [[name.replace("_", " "), setting_text(value)] for name, value in known.items()]
    return TextTable(["setting", "value"], rows)


def setting_text(value: object) -> str:
    """A setting in a table."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) if value else "none"
    return "none" if value is None else str(value)


def runs_table(c: Comparison) -> TextTable:
    """Where each run lies."""
    rows = [
        [name, "none" if run.seed is None else str(run.seed), str(run.identity.get("step", "–")), str(run.folder)]
        for name, group in c.cube.groups.items()
        for run in group
    ]
    return TextTable(["method", "seed", "step", "run folder"], rows)


def spending_table(c: Comparison) -> TextTable | None:
    """What training spent, mean over seeds, and which axes agree."""
    if not c.spending.methods:
        return None
    axes = list(c.spending.equalised)
    rows = [
        [method, *(cost_text(spent[axis]) if axis in spent else "" for axis in axes)]
        for method, spent in c.spending.methods.items()
    ]
    if len(rows) > 1:
        rows.append(["within 5%", *("yes" if c.spending.equalised[axis] else "no" for axis in axes)])
    return TextTable(["method", *map(axis_title, axes)], rows, fixed=int(len(rows) > 1))
