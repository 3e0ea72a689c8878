"""Intervals over seeds and problems by a crossed, hierarchical bootstrap, and tests by the same resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval.

    Args:
        value: the mean.
        low: lower bound.
        high: upper bound.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, object]:
        """The form of ``comparison.json``; null where there is no value."""
        if np.isnan(self.value):
            return {"value": None, "ci95": [None, None]}
        return {"value": self.value, "ci95": [self.low, self.high]}

    @property
    def sign(self) -> int:
        """1 or -1 if the interval lies on one side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


class HierarchicalBootstrap:
    """Draws seeds, then problems, and keeps the draws, so that every method and difference sees the same ones.

    With X_sp the value of seed s on problem p, resample b has the mean

        m_b = sum_s v_bs sum_p w_bp X_sp

    where w_b are the shares of problems drawn with replacement and v_b those of seeds. All seeds of a method see the
    same problems, so one draw of problems serves all of them; drawing problems afresh for each seed would take their
    common difficulty for noise that averages out. With one seed this is the plain bootstrap over problems. A missing
    value (NaN: a metric over solved problems only) is left out of both sums of the weighted mean.

    Args:
        num_resamples: number of resamples.
        seed: seed of the draws.
        level: coverage of the intervals.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8 (hierarchical data).
    """

    def __init__(self, *, num_resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> None:
        self.num_resamples = num_resamples
        self.seed = seed
        self.level = level
        self._draws: dict[tuple[str, int], Array] = {}

    def interval(self, values_SP: Array) -> Interval:
        """Interval of the mean over seeds and problems.

        Args:
            values_SP: one row a seed, one column a problem.
        """
        if np.isnan(values_SP).all():
            return Interval(np.nan, np.nan, np.nan)
        return self.percentiles(float(np.nanmean(values_SP)), self.means(values_SP))

    def difference(self, values_SP: Array, baseline_SP: Array, *, paired_seeds: bool) -> Interval:
        """Interval of mean(values) - mean(baseline), problems paired, seeds paired if both have the same ones."""
        means_b = self.difference_means(values_SP, baseline_SP, paired_seeds=paired_seeds)
        return self.percentiles(float(values_SP.mean() - baseline_SP.mean()), means_b)

    def difference_means(self, values_SP: Array, baseline_SP: Array, *, paired_seeds: bool) -> Array:
        """mean(values) - mean(baseline) of each resample."""
        return self.means(values_SP) - self.means(baseline_SP, "seeds" if paired_seeds else "baseline seeds")

    def means(self, values_SP: Array, stream: str = "seeds") -> Array:
        """The mean of each resample.

        Args:
            values_SP: one row a seed, one column a problem.
            stream: which draws of seeds.
        """
        num_seeds, num_problems = values_SP.shape
        problems, seeds = self._shares("problems", num_problems), self._shares(stream, num_seeds)
        known_SP = ~np.isnan(values_SP)
        if known_SP.all():
            means: Array = ((problems @ values_SP.T) * seeds).sum(axis=1)
            return means
        total = ((problems @ np.where(known_SP, values_SP, 0.0).T) * seeds).sum(axis=1)
        weight = ((problems @ known_SP.astype(np.float64).T) * seeds).sum(axis=1)
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)

    def percentiles(self, value: float, means_b: Array, *, level: float | None = None) -> Interval:
        """The percentile interval of resampled means; resamples without a value are left out.

        Args:
            value: the mean of the data themselves.
            means_b: one mean a resample.
            level: coverage; that of this bootstrap if None.
        """
        tail = 50.0 * (1.0 - (level if level is not None else self.level))
        low, high = np.nanpercentile(means_b, [tail, 100.0 - tail])
        return Interval(value, float(low), float(high))

    def _shares(self, stream: str, count: int) -> Array:
        if (stream, count) not in self._draws:
            rng = np.random.default_rng([self.seed, count, *stream.encode()])
            drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=self.num_resamples)
            self._draws[stream, count] = drawn / count
        return self._draws[stream, count]
