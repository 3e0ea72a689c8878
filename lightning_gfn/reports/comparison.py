"""Compare methods over seeds on the same problems: table, sentences, figure and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_gfn.reports.bootstrap import Array, HierarchicalBootstrap, Interval
from lightning_gfn.reports.runs import EvaluatedRun, check_comparable

HEADLINE = ("solve_rate", "pass_at_8", "maj_at_8", "distinct_correct_rouge_0.7", "coverage")

Table = dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        headline: method → headline metric → interval.
        further: method → every other per-problem metric → interval.
        differences: method → headline metric → interval of its difference to the baseline.
        leads: headline metric → other method → interval of the highest method's lead over it.
        baseline: the method that the others are compared with.
        seeds: method → its seeds.
        problems: number of problems.
        decoding: how completions were drawn, the same for all.
        temperature: the temperature compared.
        budget: method → what training spent, mean over seeds.
        parameters: number of parameters of the largest model.
    """

    headline: Table
    further: Table
    differences: Table
    leads: Table
    baseline: str
    seeds: Mapping[str, list[int | None]]
    problems: int
    decoding: Mapping[str, Any]
    temperature: float
    budget: Mapping[str, Mapping[str, float]]
    parameters: int | None

    def to_json(self) -> dict[str, Any]:
        """The content of ``comparison.json``."""

        def plain(table: Table) -> dict[str, Any]:
            return {name: {metric: x.to_json() for metric, x in row.items()} for name, row in table.items()}

        known = {seed for seeds in self.seeds.values() for seed in seeds if seed is not None}
        return {
            "methods": plain(self.headline),
            "problems": self.problems,
            "samples_per_problem": self.decoding["num_samples"],
            "seeds": sorted(known),
            "budget": {name: dict(spent) for name, spent in self.budget.items()},
            "baseline": self.baseline,
            "differences": plain(self.differences),
            "leads": plain(self.leads),
            "further": plain(self.further),
            "seeds_of": {name: list(seeds) for name, seeds in self.seeds.items()},
            "temperature": self.temperature,
            "decoding": dict(self.decoding),
            "parameters": self.parameters,
        }


def matrix(runs: Sequence[EvaluatedRun], metric: str) -> Array:
    """Values of a metric, one row a run, one column a problem (by id)."""
    problems = sorted(runs[0].values[metric])
    return np.array([[run.values[metric][problem] for problem in problems] for run in runs], dtype=np.float64)


def mean_budget(runs: Sequence[EvaluatedRun]) -> dict[str, float]:
    """What training spent, mean over the runs of a method; empty if a run kept no account."""
    if not all(run.budget for run in runs):
        return {}
    return {name: float(np.mean([run.budget[name] for run in runs])) for name in runs[0].budget}


def compare_runs(
    runs: Sequence[EvaluatedRun],
    *,
    baseline: str | None = None,
    temperature: float | None = None,
    num_resamples: int = 5000,
) -> Comparison:
    """Aggregate runs by method over their seeds, with 95% intervals and paired differences to a baseline.

    Args:
        runs: evaluated runs, in the order in which their methods shall appear.
        baseline: method that the others are compared with; the first one if None.
        temperature: the temperature that the runs were loaded at; the first of the grid if None.
        num_resamples: bootstrap resamples.

    Raises:
        ValueError: the runs are not comparable, or no run is of the baseline method.
    """
    check_comparable(runs)
    groups: dict[str, list[EvaluatedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.seed is None, run.seed)):
        groups.setdefault(run.method, []).append(run)
    methods = list(dict.fromkeys(run.method for run in runs))
    base = baseline if baseline is not None else methods[0]
    if base not in groups:
        raise ValueError(f"--baseline {base!r} is none of the methods of these runs: {', '.join(methods)}")
    seeds = {name: [run.seed for run in groups[name]] for name in methods}
    bootstrap = HierarchicalBootstrap(num_resamples=num_resamples)
    measured = [name for name in runs[0].values if runs[0].values[name]]
    intervals: Table = {
        name: {metric: bootstrap.interval(matrix(groups[name], metric)) for metric in measured} for name in methods
    }
    headline = [metric for metric in HEADLINE if metric in measured]
    if not headline:
        raise ValueError(f"the runs hold none of {', '.join(HEADLINE)}: evaluate them with 8 samples a problem")

    def difference(name: str, other: str, metric: str) -> Interval:
        left, right = matrix(groups[name], metric), matrix(groups[other], metric)
        return bootstrap.difference(left, right, paired_seeds=seeds[name] == seeds[other])

    highest = {metric: max(methods, key=lambda name: intervals[name][metric].value) for metric in headline}
    decoding = runs[0].identity["decoding"]
    sizes = [run.identity["parameters"] for run in runs if run.identity.get("parameters") is not None]
    return Comparison(
        headline={name: {m: intervals[name][m] for m in headline} for name in methods},
        further={name: {m: x for m, x in intervals[name].items() if m not in headline} for name in methods},
        differences={n: {m: difference(n, base, m) for m in headline} for n in methods if n != base},
        leads={m: {n: difference(best, n, m) for n in methods if n != best} for m, best in highest.items()},
        baseline=base,
        seeds=seeds,
        problems=runs[0].identity["problems"]["count"],
        decoding=decoding,
        temperature=temperature if temperature is not None else decoding["temperatures"][0],
        budget={name: spent for name in methods if (spent := mean_budget(groups[name]))},
        parameters=max(sizes) if sizes else None,
    )
