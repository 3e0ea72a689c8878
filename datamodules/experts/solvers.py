"""Simulated solvers of additions, each wrong in its own way at a stated rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Errors = Literal["diverse", "shared"]
MISTAKES = (1, -1, 10, -10, 2, -2, 11, -11, 9, -9)
"""What a wrong answer is off by: one too many, a carry forgotten or invented, and so on."""
DIGITS = 10


def written(number: int) -> str:
    """A number from its last digit to its first, in the order in which sums are carried: a small model learns that."""
    return str(number)[::-1]


@dataclass(frozen=True)
class Solver:
    """A solver of a + b who is wrong wherever a ends in one of its blind digits, and slips elsewhere at random.

        p(a + b + own mistake | a ends in a blind digit) = 1
        p(a + b | another digit) = 1 − s,      p(a + b + m | another digit) = s / 10 for each of ten mistakes m

    Args:
        blind: last digits of the first number at which it is always wrong.
        mistake: what it is off by there, one of ``MISTAKES``.
        slip_rate: s, probability of an error elsewhere.
    """

    blind: frozenset[int]
    mistake: int
    slip_rate: float = 0.0

    @property
    def error_rate(self) -> float:
        """Share of wrong answers over numbers with equally frequent last digits."""
        share = len(self.blind) / DIGITS
        return share + (1.0 - share) * self.slip_rate

    def distribution(self, a: int, b: int) -> dict[str, float]:
        """Probability of each answer to a + b."""
        if a % DIGITS in self.blind:
            return {written(a + b + self.mistake): 1.0}
        right = {written(a + b): 1.0 - self.slip_rate}
        if not self.slip_rate:
            return right
        return right | {written(a + b + mistake): self.slip_rate / len(MISTAKES) for mistake in MISTAKES}


def make_solvers(blind_rates: Sequence[float], errors: Errors, *, slip_rate: float = 0.0) -> list[Solver]:
    """Solvers with these rates of systematic errors.

    Diverse solvers are dealt their blind digits in turn, so that as few of them as possible are wrong on the same
    problem, and each has a mistake of its own (there are ten, then they repeat). Solvers with shared errors are blind
    to the same digits, those with a lower rate to the first of them, and make the same mistake.

    Args:
        blind_rates: share of the last digits that each solver is wrong at, in tenths.
        errors: whether solvers err on different problems or on the same ones.
        slip_rate: probability of a random error elsewhere.

    Raises:
        ValueError: a rate is out of range or no multiple of a tenth.
    """
    if not blind_rates or errors not in ("diverse", "shared"):
        raise ValueError(
            f"data.errors is {errors!r} (diverse or shared), data.blind_rates {blind_rates} (at least one)"
        )
    if not 0.0 <= slip_rate < 1.0:
        raise ValueError(f"data.slip_rate is {slip_rate}, expected a probability below 1")
    solvers, start = [], 0
    for number, rate in enumerate(blind_rates):
        count = round(rate * DIGITS)
        if not 0.0 <= rate < 1.0 or not math.isclose(count, rate * DIGITS, abs_tol=1e-9):
            raise ValueError(f"data.blind_rates holds {rate}: expected tenths from 0.0 to 0.9, a last digit each")
        first, mistake = (start, MISTAKES[number % len(MISTAKES)]) if errors == "diverse" else (0, MISTAKES[0])
        blind = frozenset((first + digit) % DIGITS for digit in range(count))
        solvers.append(Solver(blind, mistake, slip_rate))
        start += count
    return solvers


def mixture(distributions: Sequence[dict[str, float]]) -> dict[str, float]:
    """The average of distributions: what their imitator learns where each writes equally many examples.

        p̄(y | x) = 1/k Σ_i p_i(y | x)

    Source: Zhang et al. 2024, arXiv:2406.11741, section 2.
    """
    average: dict[str, float] = {}
    for distribution in distributions:
        for text, probability in distribution.items():
            average[text] = average.get(text, 0.0) + probability / len(distributions)
    return average
