"""Compare methods over seeds on the same problems: everything that the tables, sentences, plots and files show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_gfn.metrics.functional.estimates import pass_at_k
from lightning_gfn.reports.decodings import decodings_of, with_shared_decoding
from lightning_gfn.reports.runs import EvaluatedRun, check_comparable
from lightning_gfn.reports.statistics.best import BestTemperatures, at_best_temperatures
from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap, Interval
from lightning_gfn.reports.statistics.contrasts import contrast, equality, resampled_difference
from lightning_gfn.reports.statistics.cube import ACCURACY, PLANES, Cube
from lightning_gfn.reports.statistics.matched import MatchedAccuracy, match_accuracy
from lightning_gfn.reports.statistics.significance import Difference, Equality, holm
from lightning_gfn.reports.statistics.spending import Spending, spending
from lightning_gfn.reports.statistics.strata import Strata, stratify

Table = dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Options:
    """Options of a comparison, as the user chose them.

    Args:
        baseline: method that the others are compared with; the first one if None.
        stage: ``test`` or ``val``.
        primary: metrics whose p-values are corrected together; all headline metrics if None.
        margin: differences of the solve rate up to this one do not matter.
        min_difference: a difference of distinct-correct below this one does not matter, however sure (solutions).
        num_resamples: bootstrap resamples.
        own_decoding: methods may differ in how they decode; each counts at the first temperature of its own grid.
    """

    baseline: str | None = None
    stage: str = "test"
    primary: tuple[str, ...] | None = None
    margin: float = 0.05
    min_difference: float = 0.0
    num_resamples: int = 10_000
    own_decoding: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ValueError(f"--margin must lie between 0 and 1 (a difference of solve rates), got {self.margin}")
        if self.min_difference < 0:
            raise ValueError(f"--min_difference must be at least 0, got {self.min_difference}")


@dataclass(frozen=True)
class Comparison:
    """A comparison holds everything that was found.

    Args:
        cube: the values of all runs.
        options: what the user chose.
        baseline: the method that the others are compared with.
        primary: the metrics whose p-values are corrected together.
        headline: method → headline metric → interval.
        further: method → every other per-problem metric → interval.
        unpaired: metrics of ``further`` over problems that differ by run.
        differences: method → metric → difference to the baseline.
        equality: method → whether its solve rate equals the baseline's; empty where nothing is solved or failed.
        leads: headline metric → other method → interval of the highest method's lead over it.
        grid: temperature → method → headline metric → interval.
        pass_curve: method → k → pass@k, for every k up to the number of samples.
        matched: distinct-correct at equal solve rates.
        best: each method at its best temperature.
        strata: the headline metrics by field of the data.
        spending: what training spent.
        parameters: number of parameters of the largest model.
        own_decoding: method → how it decodes, in words, where methods were let differ in that; else empty.
    """

    cube: Cube
    options: Options
    baseline: str
    primary: tuple[str, ...]
    headline: Table
    further: Table
    unpaired: list[str]
    differences: dict[str, dict[str, Difference]]
    equality: dict[str, Equality]
    leads: Table
    grid: dict[float, Table]
    pass_curve: dict[str, dict[int, Interval]]
    matched: MatchedAccuracy | None
    best: BestTemperatures | None
    strata: Strata
    spending: Spending
    parameters: int | None
    own_decoding: Mapping[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The methods in order of appearance."""
        return self.cube.methods

    @property
    def metrics(self) -> list[str]:
        """The headline metrics."""
        return list(next(iter(self.headline.values())))

    @property
    def diversity(self) -> str | None:
        """The distinct-correct metric of plots and claims."""
        return self.cube.diversity()

    @property
    def planes(self) -> list[tuple[str, str]]:
        """Pairs of a measure of quality and one of diversity that all methods have: accuracy first, if it is one."""
        known = set.intersection(*(set(self.measured(name)) for name in self.methods)) - set(self.unpaired)
        up = self.diversity
        first = [(ACCURACY, up)] if up is not None and ACCURACY in self.metrics else []
        pairs = [*first, *((across, up) for across, ups in PLANES for up in ups)]
        return [pair for pair in pairs if set(pair) <= known]

    @property
    def decoding(self) -> Mapping[str, Any]:
        """How completions were drawn, the same for all."""
        decoding: Mapping[str, Any] = self.first_run.identity["decoding"]
        return decoding

    @property
    def first_run(self) -> EvaluatedRun:
        """A run, for what is the same in all."""
        return next(iter(self.cube.groups.values()))[0]

    def measured(self, method: str) -> dict[str, Interval]:
        """Every metric of a method at the temperature compared."""
        return {**self.headline[method], **self.further[method]}

    def to_json(self) -> dict[str, Any]:
        """The content of ``comparison.json``."""

        def plain(table: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
            return {name: {str(metric): x.to_json() for metric, x in row.items()} for name, row in table.items()}

        known = {seed for seeds in self.cube.seeds.values() for seed in seeds if seed is not None}
        return {
            "methods": plain(self.headline),
            "stage": self.options.stage,
            "problems": len(self.cube.problems),
            "samples_per_problem": self.decoding["num_samples"],
            "seeds": sorted(known),
            "budget": self.spending.methods,
            "baseline": self.baseline,
            "primary": list(self.primary),
            "differences": plain(self.differences),
            "equality": {name: found.to_json() for name, found in self.equality.items()},
            "min_difference": self.options.min_difference,
            "leads": plain(self.leads),
            "further": plain(self.further),
            "unpaired": self.unpaired,
            "seeds_of": {name: list(seeds) for name, seeds in self.cube.seeds.items()},
            "temperature": self.cube.temperature,
            "grid": {str(temperature): plain(table) for temperature, table in self.grid.items()},
            "pass_at_k": plain(self.pass_curve),
            "matched_accuracy": self.matched.to_json() if self.matched is not None else None,
            "best_temperature": self.best.to_json() if self.best is not None else None,
            "strata": self.strata.to_json(),
            "spending": self.spending.to_json(),
            "decoding": dict(self.decoding),
            **({"own_decoding": dict(self.own_decoding)} if self.own_decoding else {}),
            "metric_settings": self.first_run.identity["metric_settings"],
            "parameters": self.parameters,
            "runs": {name: [str(run.folder) for run in group] for name, group in self.cube.groups.items()},
            "resamples": self.options.num_resamples,
        }


def compare_runs(runs: Sequence[EvaluatedRun], options: Options | None = None) -> Comparison:
    """Aggregate runs by method over their seeds, with 95% intervals and paired differences to a baseline.

    Args:
        runs: evaluated runs, in the order in which their methods shall appear.
        options: what to compare with, and how.

    Raises:
        ValueError: the runs are not comparable, or an option names what they do not have.
    """
    chosen = options if options is not None else Options()
    decodings = decodings_of(runs) if chosen.own_decoding else {}
    runs = with_shared_decoding(runs) if chosen.own_decoding else runs
    check_comparable(runs)
    cube = Cube(runs)
    base = chosen.baseline if chosen.baseline is not None else cube.methods[0]
    if base not in cube.groups:
        raise ValueError(f"--baseline {base!r} is none of the methods of these runs: {', '.join(cube.methods)}")
    bootstrap = HierarchicalBootstrap(num_resamples=chosen.num_resamples)
    metrics = cube.headline()
    if not metrics:
        raise ValueError(
            "the runs hold neither a solve_rate nor a log_likelihood for all problems: evaluate them with the "
            "Evaluation callback"
        )
    judged = ACCURACY in metrics
    primary = check_primary(cube, chosen.primary if chosen.primary is not None else tuple(metrics))
    intervals = {
        name: {metric: bootstrap.interval(cube.matrix(name, metric)) for metric in cube.metrics}
        for name in cube.methods
    }
    others = [name for name in cube.methods if name != base]
    sizes = [run.identity["parameters"] for run in runs if run.identity.get("parameters") is not None]
    return Comparison(
        cube=cube,
        options=chosen,
        baseline=base,
        primary=primary,
        headline={name: {m: row[m] for m in metrics} for name, row in intervals.items()},
        further={name: {m: x for m, x in row.items() if m not in metrics} for name, row in intervals.items()},
        unpaired=cube.unpaired_metrics(),
        differences=all_differences(cube, bootstrap, base, primary),
        equality={name: equality(cube, bootstrap, name, base, margin=chosen.margin) for name in others if judged},
        leads=leads(cube, bootstrap, intervals, metrics),
        grid=temperature_grid(cube, bootstrap, metrics),
        pass_curve={name: pass_curve(cube, bootstrap, name) if judged else {} for name in cube.methods},
        matched=match_accuracy(cube, base, bootstrap) if judged else None,
        best=at_best_temperatures(cube, base, bootstrap, margin=chosen.margin, stage=chosen.stage) if judged else None,
        strata=stratify(cube, base, bootstrap),
        spending=spending(cube.groups),
        parameters=max(sizes) if sizes else None,
        own_decoding=decodings,
    )


def check_primary(cube: Cube, primary: tuple[str, ...]) -> tuple[str, ...]:
    """The primary metrics, known to be common to all runs.

    Raises:
        ValueError: the runs do not have one of them for the same problems.
    """
    for metric in primary:
        if metric not in cube.paired_metrics():
            raise ValueError(
                f"--primary {metric!r} is no metric that all runs have for the same problems; "
                f"choose from {', '.join(cube.paired_metrics())}"
            )
    return primary


def all_differences(
    cube: Cube, bootstrap: HierarchicalBootstrap, base: str, primary: tuple[str, ...]
) -> dict[str, dict[str, Difference]]:
    """Method → paired metric → difference to the baseline; Holm's correction over methods and primary metrics.

    Args:
        cube: the values.
        bootstrap: draws the resamples.
        base: name of the baseline.
        primary: the metrics whose p-values are corrected.
    """
    found = {
        (name, metric): contrast(cube, bootstrap, name, base, metric)
        for name in cube.methods
        if name != base
        for metric in cube.paired_metrics()
    }
    corrected = holm({key: difference.p for key, difference in found.items() if key[1] in primary})
    table: dict[str, dict[str, Difference]] = {}
    for (name, metric), difference in found.items():
        table.setdefault(name, {})[metric] = Difference(
            difference.interval, difference.p, corrected.get((name, metric))
        )
    return table


def leads(cube: Cube, bootstrap: HierarchicalBootstrap, intervals: Table, metrics: Sequence[str]) -> Table:
    """Headline metric → other method → interval of the highest method's lead over it.

    Args:
        cube: the values.
        bootstrap: draws the resamples.
        intervals: method → metric → interval.
        metrics: the headline metrics.
    """
    table: Table = {}
    for metric in metrics:
        best = max(cube.methods, key=lambda name: intervals[name][metric].value)
        for name in cube.methods:
            if name != best:
                value, means_b = resampled_difference(cube, bootstrap, best, name, metric)
                table.setdefault(metric, {})[name] = bootstrap.percentiles(value, means_b)
    return table


def temperature_grid(cube: Cube, bootstrap: HierarchicalBootstrap, metrics: Sequence[str]) -> dict[float, Table]:
    """Temperature → method → those headline metrics that every run has at every temperature."""
    known = [metric for metric in metrics if cube.is_on_grid(metric)]
    return {
        t: {name: {m: bootstrap.interval(cube.matrix(name, m, temperature=t)) for m in known} for name in cube.methods}
        for t in cube.temperatures
    }


def pass_curve(cube: Cube, bootstrap: HierarchicalBootstrap, method: str) -> dict[int, Interval]:
    """pass@k for k = 1, 2, 4, … and the number of samples, from the counts of right samples."""
    group = cube.groups[method]
    rows = [[run.samples[problem] for problem in cube.problems] for run in group]
    if not all("num_correct" in row and "num_samples" in row for column in rows for row in column):
        return {}
    counts = np.array([[row["num_correct"] for row in column] for column in rows])
    totals = np.array([[row["num_samples"] for row in column] for column in rows])
    largest = int(totals.min())
    ks = [*(2**i for i in range(largest.bit_length()) if 2**i < largest), largest]
    return {k: bootstrap.interval(np.asarray(pass_at_k(totals, counts, k))) for k in ks}
