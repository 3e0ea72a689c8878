"""How well the classes of one map are those of another: agreement over pairs of solutions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PairCounts:
    """Pairs of solutions of one problem, by whether a class map and the truth join them.

    Args:
        both: joined by both.
        found_only: joined by the map alone.
        true_only: joined by the truth alone.
        neither: joined by neither.
    """

    both: int = 0
    found_only: int = 0
    true_only: int = 0
    neither: int = 0

    def __add__(self, other: PairCounts) -> PairCounts:
        return PairCounts(
            self.both + other.both,
            self.found_only + other.found_only,
            self.true_only + other.true_only,
            self.neither + other.neither,
        )

    @property
    def precision(self) -> float:
        """Share of the pairs that the map joins which belong together; NaN if it joins none."""
        return share(self.both, self.both + self.found_only)

    @property
    def recall(self) -> float:
        """Share of the pairs that belong together which the map joins; NaN if there are none."""
        return share(self.both, self.both + self.true_only)

    @property
    def wrongly_joined(self) -> float:
        """Share of the pairs that do not belong together which the map joins; NaN if there are none."""
        return share(self.found_only, self.found_only + self.neither)

    @property
    def adjusted_rand_index(self) -> float:
        """Agreement beyond that of random classes of the same sizes: 1 where equal, 0 expected by chance.

            2 (a d - b c) / ((a + c) (c + d) + (a + b) (b + d)),  a both, b found alone, c true alone, d neither

        Source: Hubert and Arabie 1985, Journal of Classification 2; the form is Steinley's (2004).
        """
        a, b, c, d = self.both, self.found_only, self.true_only, self.neither
        return 1.0 if b == c == 0 else 2 * (a * d - b * c) / ((a + c) * (c + d) + (a + b) * (b + d))


def share(part: int, whole: int) -> float:
    """Their quotient; NaN without a whole."""
    return part / whole if whole else math.nan


def pair_counts(found: Sequence[Hashable | None], truth: Sequence[Hashable]) -> PairCounts:
    """Count the pairs of a problem's solutions.

    Args:
        found: the class of each solution; one that belongs to no class is alone.
        truth: the true class of each.

    Raises:
        ValueError: the lengths differ.
    """
    alone = [(label,) if label is not None else position for position, label in enumerate(found)]
    joined = Counter(zip(alone, truth, strict=True))
    both, in_found, in_truth = (
        sum(math.comb(count, 2) for count in counts.values()) for counts in (joined, Counter(alone), Counter(truth))
    )
    rest = math.comb(len(found), 2) - in_found - in_truth + both
    return PairCounts(both, in_found - both, in_truth - both, rest)
