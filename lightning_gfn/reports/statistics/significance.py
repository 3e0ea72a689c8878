"""Tests of differences: p-values from bootstrap resamples, Holm's correction, equivalence within a margin."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lightning_gfn.reports.statistics.bootstrap import Interval

if TYPE_CHECKING:
    from lightning_gfn.reports.statistics.bootstrap import Array

Key = TypeVar("Key", bound=Hashable)


def bootstrap_p_value(differences_b: Array) -> float:
    """Two-sided p-value of "no difference" from the resampled differences of a paired bootstrap.

        p = min(1, 2 (1 + min(#{d_b ≤ 0}, #{d_b ≥ 0})) / (B + 1))

    It inverts the percentile interval: p < 0.05 where the 95% interval leaves out zero. Resamples without a value (NaN)
    do not count.

    Args:
        differences_b: one difference a resample.

    Returns:
        A probability in [2 / (B + 1), 1].

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), sections 4.4 and 5.
    """
    known = differences_b[~np.isnan(differences_b)]
    # A difference of rounding errors is none: both sides count it.
    tiny = 1e-12
    fewer = min(int((known <= tiny).sum()), int((known >= -tiny).sum()))
    return min(1.0, 2.0 * (1 + fewer) / (len(known) + 1))


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's step-down correction: the family-wise error of all tests together keeps its level.

        p̃_(i) = max_{j ≤ i} min(1, (m - j + 1) p_(j))        p_(1) ≤ … ≤ p_(m)

    Args:
        p_values: the p-value of each test.

    Returns:
        The corrected p-value of each test.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", section 3.
    """
    corrected: dict[Key, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[key]))
        corrected[key] = highest
    return {key: corrected[key] for key in p_values}


@dataclass(frozen=True)
class Difference:
    """A paired difference to the baseline.

    Args:
        interval: the difference with its 95% interval.
        p: two-sided p-value of no difference.
        p_holm: the same, corrected for all methods and primary metrics; None for metrics outside this family.
    """

    interval: Interval
    p: float
    p_holm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {**self.interval.to_json(), "p": self.p, "p_holm": self.p_holm}

    @property
    def sign(self) -> int:
        """1 or -1 if a difference is shown at 5%: by the corrected p-value where there is one, else by the interval."""
        if self.p_holm is not None:
            return int(np.sign(self.interval.value)) if self.p_holm < 0.05 else 0
        return self.interval.sign


@dataclass(frozen=True)
class Equality:
    """Whether two accuracies are equal for practical purposes, by two one-sided tests at 5% each.

    Args:
        difference: difference of solve rates with its 95% interval.
        low: lower end of its 90% interval.
        high: upper end of its 90% interval.
        margin: differences up to this one do not matter.

    Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach"; the 90%
        interval lies within the margin exactly where both tests reject at 5%.
    """

    difference: Interval
    low: float
    high: float
    margin: float

    @property
    def equal(self) -> bool:
        """True if the whole 90% interval lies within ± margin."""
        return -self.margin <= self.low and self.high <= self.margin

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {
            **self.difference.to_json(),
            "ci90": [self.low, self.high],
            "margin": self.margin,
            "equal": self.equal,
        }
