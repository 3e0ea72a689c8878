"""Intervals over seeds and problems by a crossed, hierarchical bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, object]:
        """The form of ``comparison.json``."""
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
    common difficulty for noise that averages out. With one seed this is the plain bootstrap over problems.

    Args:
        num_resamples: number of resamples.
        seed: seed of the draws.
        level: coverage of the intervals.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8 (hierarchical data).
    """

    def __init__(self, *, num_resamples: int = 5000, seed: int = 0, level: float = 0.95) -> None:
        self.num_resamples = num_resamples
        self.seed = seed
        self.level = level
        self._draws: dict[tuple[str, int], Array] = {}

    def interval(self, values_SP: Array) -> Interval:
        """Interval of the mean over seeds and problems.

        Args:
            values_SP: one row a seed, one column a problem.
        """
        return self._percentiles(float(values_SP.mean()), self._means(values_SP, "seeds"))

    def difference(self, values_SP: Array, baseline_SP: Array, *, paired_seeds: bool) -> Interval:
        """Interval of mean(values) - mean(baseline), problems paired, seeds paired where both have the same ones."""
        other = "seeds" if paired_seeds else "baseline seeds"
        means_b = self._means(values_SP, "seeds") - self._means(baseline_SP, other)
        return self._percentiles(float(values_SP.mean() - baseline_SP.mean()), means_b)

    def _means(self, values_SP: Array, stream: str) -> Array:
        num_seeds, num_problems = values_SP.shape
        by_seed_BS = self._shares("problems", num_problems) @ values_SP.T
        means: Array = (by_seed_BS * self._shares(stream, num_seeds)).sum(axis=1)
        return means

    def _shares(self, stream: str, count: int) -> Array:
        if (stream, count) not in self._draws:
            rng = np.random.default_rng([self.seed, count, *stream.encode()])
            drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=self.num_resamples)
            self._draws[stream, count] = drawn / count
        return self._draws[stream, count]

    def _percentiles(self, value: float, means: Array) -> Interval:
        tail = 50.0 * (1.0 - self.level)
        low, high = np.percentile(means, [tail, 100.0 - tail])
        return Interval(value, float(low), float(high))
