"""The comparison as a Markdown page: table, plain sentences, budgets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightning_gfn.reports.bootstrap import Interval
from lightning_gfn.reports.comparison import Comparison

SPOKEN = {
    "solve_rate": "solve rate",
    "coverage": "coverage of the known solutions",
    "completion_length_mean": "completion length (tokens)",
    "entropy_mean": "entropy per action (nats)",
}


def metric_title(metric: str) -> str:
    """A metric key in words."""
    if metric in SPOKEN:
        return SPOKEN[metric]
    match = re.fullmatch(r"(pass|maj)_at_(\d+)", metric)
    if match:
        return f"{match[1]}@{match[2]}"
    match = re.fullmatch(r"distinct_correct_rouge_([\d.]+)(?:_(\w+))?", metric)
    if match:
        rule = f", {match[2].replace('_', ' ')}" if match[2] else ""
        return f"distinct correct (ROUGE-L < {match[1]}{rule})"
    return metric.replace("_", " ")


def with_interval(x: Interval, *, signed: bool = False) -> str:
    """``0.812 [0.790, 0.834]``."""
    sign = "+" if signed else ""
    return f"{x.value:{sign}.3f} [{x.low:{sign}.3f}, {x.high:{sign}.3f}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table; the first column is text, the others are numbers."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *numbers]) + " |"

    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def difference_sentence(name: str, baseline: str, metric: str, x: Interval) -> str:
    """Who is higher, by how much; or that it cannot be told."""
    by = f"{abs(x.value):.3f}"
    if x.sign > 0:
        return f"**{name}** is higher than {baseline} by {by} (95% interval {x.low:.3f} to {x.high:.3f})."
    if x.sign < 0:
        return f"**{name}** is lower than {baseline} by {by} (95% interval {-x.high:.3f} to {-x.low:.3f})."
    return (
        f"**{name}** and {baseline} cannot be told apart: the difference is {x.value:+.3f} "
        f"(95% interval {x.low:+.3f} to {x.high:+.3f})."
    )


def lead_sentence(comparison: Comparison, metric: str) -> str:
    """Which method is highest, and whether its lead over each method but the baseline can be told from chance."""
    leads = comparison.leads[metric]
    leader = next(name for name in comparison.headline if name not in leads)
    clear = [f"{name} by {with_interval(x)}" for name, x in leads.items() if x.sign > 0 and name != comparison.baseline]
    level = [f"{name} ({with_interval(x, signed=True)})" for name, x in leads.items() if x.sign <= 0]
    text = f"{metric_title(metric)}: {leader} highest with {comparison.headline[leader][metric].value:.3f}"
    if clear and leader != comparison.baseline:
        text += f"; ahead of {', of '.join(clear)}"
    if level:
        text += f"; not to be told apart from {', '.join(level)}"
    return text + "."


def findings(comparison: Comparison) -> list[str]:
    """For each headline metric: the highest method and its leads, then each method against the baseline."""
    lines = []
    for metric in comparison.leads:
        lines.append(f"- {lead_sentence(comparison, metric)}")
        for name, row in comparison.differences.items():
            lines.append(f"  - {difference_sentence(name, comparison.baseline, metric, row[metric])}")
    return lines


def cut_off(name: str, value: float | None) -> str:
    """A truncation of the sampling distribution in words."""
    return f"{name} {value}" if value is not None else f"no {name}"


def setting_sentences(comparison: Comparison) -> list[str]:
    """How the figures were measured and how far they reach."""
    decoding = comparison.decoding
    limits = f"{cut_off('top-k', decoding.get('top_k'))}, {cut_off('top-p', decoding.get('top_p'))}"
    counts = {len(seeds) for seeds in comparison.seeds.values()}
    named = {name: ", ".join(map(str, seeds)) for name, seeds in comparison.seeds.items()}
    same = len(set(named.values())) == 1
    single = "problems; with one seed they leave out how much training runs differ."
    lines = [
        f"{comparison.problems} problems, {decoding['num_samples']} completions each at temperature "
        f"{comparison.temperature:g} ({limits}), the same for every method.",
        "Seeds: " + next(iter(named.values())) + "."
        if same
        else "Seeds by method: " + "; ".join(f"{name}: {seeds}" for name, seeds in named.items()) + ".",
        "Brackets hold 95% bootstrap intervals over " + (single if counts == {1} else "seeds and problems."),
    ]
    size = f" ({comparison.parameters:,} parameters)" if comparison.parameters is not None else ""
    lines.append(
        f"These conclusions hold for models of this size{size}, this task and these budgets; "
        "they say nothing of larger models."
    )
    return lines


def budget_table(comparison: Comparison) -> str:
    """What each method's training spent, mean over seeds."""
    names = list(dict.fromkeys(name for spent in comparison.budget.values() for name in spent))
    rows = [
        [method, *(f"{spent[name]:,.0f}" if name in spent else "" for name in names)]
        for method, spent in comparison.budget.items()
    ]
    return markdown_table(["method", *(name.replace("_", " ") for name in names)], rows)


def comparison_markdown(comparison: Comparison, *, image: str | None = None) -> str:
    """The whole page.

    Args:
        comparison: what was found.
        image: file name of the figure, relative to the page.
    """
    metrics = list(next(iter(comparison.headline.values())))
    rows = [[name, *(with_interval(row[metric]) for metric in metrics)] for name, row in comparison.headline.items()]
    parts = [
        "# Comparison of " + ", ".join(comparison.headline),
        markdown_table(["method", *(metric_title(metric) for metric in metrics)], rows),
    ]
    if image is not None:
        parts.append(f"![Accuracy against diversity, and each metric by method]({image})")
    parts += ["## What happened", "\n".join(findings(comparison)), "## How it was measured"]
    parts += setting_sentences(comparison)
    if comparison.budget:
        parts += ["## What training spent", budget_table(comparison), "Mean over seeds."]
    return "\n\n".join(parts) + "\n"
