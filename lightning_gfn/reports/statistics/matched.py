"""Diversity at matched accuracy, along each method's sampling temperatures, and each method at its best temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_gfn.reports.statistics.bootstrap import Array, HierarchicalBootstrap, Interval
from lightning_gfn.reports.statistics.cube import ACCURACY, Cube
from lightning_gfn.reports.statistics.significance import bootstrap_p_value

NUM_LEVELS = 11


@dataclass(frozen=True)
class AtLevel:
    """Distinct-correct where a method's temperatures reach a solve rate.

    Args:
        interval: distinct-correct with its 95% interval over the resamples that reach it.
        reached: share of the resamples that reach it.
    """

    interval: Interval
    reached: float

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {**self.interval.to_json(), "reached": self.reached}


@dataclass(frozen=True)
class MatchedPair:
    """A method against the baseline, over the solve rates that both reach.

    Args:
        low: lowest common solve rate.
        high: highest common solve rate; the two do not overlap where it is below ``low``.
        difference: mean difference of distinct-correct over that range; None without overlap.
        p: two-sided p-value of no difference; None without overlap.
        reached: share of the resamples in which both reach some of the range.
    """

    low: float
    high: float
    difference: Interval | None = None
    p: float | None = None
    reached: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        found = self.difference.to_json() if self.difference is not None else None
        return {"range": [self.low, self.high], "difference": found, "p": self.p, "reached": self.reached}


@dataclass(frozen=True)
class MatchedAccuracy:
    """Matched accuracy holds the comparison of diversity at equal solve rates.

    Args:
        ranges: method → lowest and highest solve rate over its temperatures.
        level: a solve rate that all methods reach, the middle of their common range; None if there is none.
        at_level: method → distinct-correct there.
        pairs: method → its comparison with the baseline.
    """

    ranges: dict[str, tuple[float, float]]
    level: float | None
    at_level: dict[str, AtLevel]
    pairs: dict[str, MatchedPair]

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "level": self.level,
            "at_level": {name: found.to_json() for name, found in self.at_level.items()},
            "pairs": {name: pair.to_json() for name, pair in self.pairs.items()},
        }


def interpolate(across_BT: Array, up_BT: Array, level: float) -> Array:
    """The height of piecewise linear paths where they cross a level; the highest crossing if there are several.

    Args:
        across_BT: solve rate of each resample at each temperature, in order of temperature.
        up_BT: distinct-correct of the same.
        level: the solve rate asked for.

    Returns:
        One value a resample; NaN where the path does not reach the level.
    """
    x0, x1, y0, y1 = across_BT[:, :-1], across_BT[:, 1:], up_BT[:, :-1], up_BT[:, 1:]
    crosses = (np.minimum(x0, x1) <= level) & (level <= np.maximum(x0, x1))
    share = np.divide(level - x0, x1 - x0, out=np.zeros_like(x0), where=x1 != x0)
    heights = np.where(x1 != x0, y0 + share * (y1 - y0), np.maximum(y0, y1))
    highest: Array = np.where(crosses, heights, -np.inf).max(axis=1)
    return np.where(np.isfinite(highest), highest, np.nan)


class Paths:
    """Solve rate and distinct-correct of each method along the temperatures, for the data and for every resample.

    Args:
        cube: the values.
        diversity: the metric that counts distinct correct solutions.
        bootstrap: draws the resamples.
    """

    def __init__(self, cube: Cube, diversity: str, bootstrap: HierarchicalBootstrap) -> None:
        self.cube = cube
        self.diversity = diversity
        self.bootstrap = bootstrap
        self.temperatures = sorted(cube.temperatures)

    def mean(self, method: str, metric: str, seeds: list[int | None] | None = None) -> Array:
        """One row, one column a temperature."""
        columns = [self.cube.matrix(method, metric, temperature=t, seeds=seeds).mean() for t in self.temperatures]
        return np.array([columns])

    def resampled(self, method: str, metric: str, stream: str, seeds: list[int | None] | None = None) -> Array:
        """One row a resample, one column a temperature.

        Args:
            method: name of the method.
            metric: name of the metric.
            stream: which draws of seeds it takes: paired methods take the same.
            seeds: over these seeds only; all if None.
        """
        columns = [
            self.bootstrap.means(self.cube.matrix(method, metric, temperature=t, seeds=seeds), stream)
            for t in self.temperatures
        ]
        return np.stack(columns, axis=1)

    def ends(self, method: str, seeds: list[int | None] | None = None) -> tuple[float, float]:
        """Lowest and highest solve rate."""
        path = self.mean(method, ACCURACY, seeds)
        return float(path.min()), float(path.max())

    def at(self, method: str, level: float) -> AtLevel:
        """Distinct-correct at a solve rate that the method reaches."""
        value = interpolate(self.mean(method, ACCURACY), self.mean(method, self.diversity), level)
        across = self.resampled(method, ACCURACY, "seeds")
        heights_b = interpolate(across, self.resampled(method, self.diversity, "seeds"), level)
        interval = self.bootstrap.percentiles(float(value[0]), heights_b)
        return AtLevel(interval, float(np.mean(~np.isnan(heights_b))))

    def pair(self, method: str, baseline: str) -> MatchedPair:
        """The method against the baseline over the solve rates that both reach, at evenly spaced levels."""
        seeds = self.cube.common_seeds(method, baseline)
        ends = [self.ends(name, seeds) for name in (method, baseline)]
        low, high = max(end[0] for end in ends), min(end[1] for end in ends)
        if high < low:
            return MatchedPair(low, high)
        levels = np.linspace(low, high, NUM_LEVELS)
        streams = {method: "seeds", baseline: "seeds" if seeds is not None else "baseline seeds"}

        def heights(name: str, *, resampled: bool) -> Array:
            across, up = (
                self.resampled(name, metric, streams[name], seeds) if resampled else self.mean(name, metric, seeds)
                for metric in (ACCURACY, self.diversity)
            )
            return np.stack([interpolate(across, up, float(level)) for level in levels], axis=1)

        value = float(np.nanmean(heights(method, resampled=False) - heights(baseline, resampled=False)))
        gaps_BL = heights(method, resampled=True) - heights(baseline, resampled=True)
        known_BL = ~np.isnan(gaps_BL)
        counts_b = known_BL.sum(axis=1)
        sums_b = np.where(known_BL, gaps_BL, 0.0).sum(axis=1)
        means_b = np.divide(sums_b, counts_b, out=np.full(len(sums_b), np.nan), where=counts_b > 0)
        if not (counts_b > 0).any():
            return MatchedPair(low, high)
        interval = self.bootstrap.percentiles(value, means_b)
        return MatchedPair(low, high, interval, bootstrap_p_value(means_b), float(np.mean(counts_b > 0)))


def match_accuracy(cube: Cube, baseline: str, bootstrap: HierarchicalBootstrap) -> MatchedAccuracy | None:
    """Compare distinct-correct at equal solve rates; None where the runs have one temperature or no such metric.

    Each method's temperatures draw a path in the plane of solve rate and distinct-correct. Between two temperatures it
    is taken as straight. Paths are drawn anew for each resample of seeds and problems, so the intervals hold the doubt
    about where a method reaches a solve rate, too.

    Args:
        cube: the values.
        baseline: the method that the others are compared with.
        bootstrap: draws the resamples.
    """
    diversity = cube.diversity()
    if diversity is None or len(cube.temperatures) < 2 or not cube.is_on_grid(diversity):
        return None
    paths = Paths(cube, diversity, bootstrap)
    ranges = {name: paths.ends(name) for name in cube.methods}
    low, high = max(ends[0] for ends in ranges.values()), min(ends[1] for ends in ranges.values())
    level = (low + high) / 2 if low <= high else None
    return MatchedAccuracy(
        ranges=ranges,
        level=level,
        at_level={name: paths.at(name, level) for name in cube.methods} if level is not None else {},
        pairs={name: paths.pair(name, baseline) for name in cube.methods if name != baseline},
    )
