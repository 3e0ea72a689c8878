"""The figures of all runs as arrays: method, seed, problem, temperature, metric."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from lightning_gfn.reports.runs import EvaluatedRun
from lightning_gfn.reports.statistics.bootstrap import Array

BRANCHES = ("solve_rate_greedy", "solve_rate_cot")
"""Headline metrics of runs that decoded behind the most probable first tokens."""
EXACT = ("target_mass", "total_variation", "kl_to_target")
"""Headline metrics of problems whose target distribution is known."""
SCORED = ("log_likelihood", "log_likelihood_max", "sample_embedding_distance", "sample_distinct_2", "sample_spread")
"""Headline metrics of problems whose completions nothing but a log reward judges."""
PLANES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("log_likelihood_max", ("sample_embedding_distance", "sample_self_bleu", "sample_distinct_2")),
    ("log_likelihood", ("sample_embedding_distance", "sample_self_bleu", "sample_distinct_2")),
)
"""Measures of quality, each with the measures of diversity that it is drawn against, beside accuracy."""
LABELS = ("label_accuracy", "label_log_prob")
"""Headline metrics of classifications."""
DISTINCT = re.compile(r"distinct_correct_rouge_([\d.]+)(?:_(expected|components))?")
CLASSES = re.compile(r"(?:distinct|effective)_classes_.+")
"""Headline metrics of runs that name classes of solutions."""
TEXTUAL = ("bleu_4", "gleu_4", "bert_score_f1")
"""Headline metrics of texts beside reference texts."""
WELFARE = ("social_welfare", "social_welfare_rounds")
"""Headline metrics of principals that set the incentives of learning agents."""
CONDITIONAL = "_solved"
"""Ending of metrics over solved problems only: their problems differ by method, so they cannot be paired."""
PREFERRED = "distinct_correct_rouge_0.7"
ACCURACY = "solve_rate"


class Cube:
    """The values of all runs, grouped by method and in order of seed.

    Args:
        runs: comparable runs, in the order in which their methods shall appear.
    """

    def __init__(self, runs: Sequence[EvaluatedRun]) -> None:
        self.groups: dict[str, list[EvaluatedRun]] = {run.method: [] for run in runs}
        for run in sorted(runs, key=lambda run: (run.seed is None, run.seed)):
            self.groups[run.method].append(run)
        self.methods = list(self.groups)
        self.seeds = {name: [run.seed for run in group] for name, group in self.groups.items()}
        self.problems = sorted(runs[0].samples)
        self.temperature = runs[0].temperature
        self.temperatures: list[float] = [float(t) for t in runs[0].identity["decoding"]["temperatures"]]
        self.metrics = list(dict.fromkeys(name for run in runs for name in run.values[self.temperature]))
        self._arrays: dict[tuple[str, str, float], Array] = {}

    def matrix(
        self,
        method: str,
        metric: str,
        *,
        temperature: float | None = None,
        problems: Sequence[str] | None = None,
        seeds: Sequence[int | None] | None = None,
    ) -> Array:
        """One row a seed, one column a problem; NaN where a metric has no value.

        Args:
            method: name of the method.
            metric: name of the metric.
            temperature: the compared one if None.
            problems: all if None.
            seeds: all of the method if None.
        """
        key = (method, metric, temperature if temperature is not None else self.temperature)
        if key not in self._arrays:
            columns = [run.values.get(key[2], {}).get(metric, {}) for run in self.groups[method]]
            rows = [[values.get(problem, np.nan) for problem in self.problems] for values in columns]
            self._arrays[key] = np.array(rows, dtype=np.float64)
        values_SP = self._arrays[key]
        if seeds is not None:
            values_SP = values_SP[[self.seeds[method].index(seed) for seed in seeds]]
        if problems is not None:
            place = {problem: column for column, problem in enumerate(self.problems)}
            values_SP = values_SP[:, [place[problem] for problem in problems]]
        return values_SP

    def common_seeds(self, method: str, other: str) -> list[int | None] | None:
        """The seeds that both methods have; None if there are none, so that their runs cannot be paired."""
        return [seed for seed in self.seeds[method] if seed in self.seeds[other]] or None

    def measured_problems(self, metric: str) -> list[str] | None:
        """The problems for which every run has a value; None if they differ by run, so that they cannot be paired."""
        known = [set(run.values[self.temperature].get(metric, {})) for group in self.groups.values() for run in group]
        return sorted(known[0]) if known[0] and all(one == known[0] for one in known) else None

    def paired_metrics(self) -> list[str]:
        """Metrics that every run has for the same problems."""
        return [
            name for name in self.metrics if not name.endswith(CONDITIONAL) and self.measured_problems(name) is not None
        ]

    def unpaired_metrics(self) -> list[str]:
        """Metrics over problems that differ by run: those that the run solved, for most of them."""
        paired = set(self.paired_metrics())
        return [name for name in self.metrics if name not in paired]

    def diversity(self) -> str | None:
        """The distinct-correct metric that plots and matching use: ROUGE-L 0.7, greedy, or else the first one."""
        found = [name for name in self.paired_metrics() if (match := DISTINCT.fullmatch(name)) and match[2] is None]
        return PREFERRED if PREFERRED in found else next(iter(found), None)

    def is_on_grid(self, metric: str) -> bool:
        """True if every run has the metric at every temperature."""
        runs = [run for group in self.groups.values() for run in group]
        return all(metric in run.values.get(t, {}) for run in runs for t in self.temperatures)

    def headline(self) -> list[str]:
        """What the runs have of solve rates, largest pass@k and maj@k, distinct-correct, classes, coverage, exactness.

        Labels, overlap with reference texts and social welfare stand behind them.

        Where nothing judges completions: likelihood under the reference, diversity of samples, and exactness of them.
        """
        paired = self.paired_metrics()
        chosen: list[str | None] = [ACCURACY, *BRANCHES, largest_k("pass", paired), largest_k("maj", paired)]
        classes = [name for name in paired if CLASSES.fullmatch(name)]
        chosen += [self.diversity(), *classes, "coverage", *EXACT, *LABELS, *TEXTUAL, *WELFARE]
        if ACCURACY not in paired:
            chosen += SCORED
        return [name for name in chosen if name is not None and name in paired]


def largest_k(kind: str, metrics: Sequence[str]) -> str | None:
    """The metric ``<kind>_at_<k>`` of the largest k."""
    found = [int(match[1]) for name in metrics if (match := re.fullmatch(rf"{kind}_at_(\d+)", name))]
    return f"{kind}_at_{max(found)}" if found else None
