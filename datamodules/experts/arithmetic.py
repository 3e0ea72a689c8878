"""Additions solved by imperfect experts: what a model can learn from teachers who are all wrong sometimes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import Any

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import keyed_hash
from datamodules.experts.solvers import DIGITS, Errors, make_solvers, mixture, written
from datamodules.generators.splits import SHARES
from lightning_gfn.types import Problem

FIRST = range(10, 100)
"""First numbers of sums; the second ones begin at 1."""


def in_turn(numbers: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs such that the last digits of their first numbers take turns, for as long as all have pairs left."""
    seen: Counter[int] = Counter()
    turns = []
    for a, _ in numbers:
        turns.append(seen[a % DIGITS])
        seen[a % DIGITS] += 1
    order = sorted(range(len(numbers)), key=lambda place: (turns[place], place))
    return [numbers[place] for place in order]


class ExpertArithmetic(ProblemDataModule):
    """Sums of a two-digit and a smaller number, the training ones answered by solvers each wrong in its own way.

    Each draw of a training problem is the answer of a solver chosen uniformly: a model that imitates the data learns
    the average of the solvers, and sampling it at a low temperature asks what most of them would say. Answers are
    written from their last digit on. The numbers of a problem decide its split by a hash, so test problems occur in no
    training set; all settings of solvers share their test problems, in which last digits take turns.

    ``metadata["experts"]`` holds what the solvers say of a problem, exactly: ``mixture`` (answer → probability),
    ``best`` (probability that the solver with the lowest error rate is right) and ``mean`` (that of all).

    Args:
        blind_rates: one solver each: share of problems, in tenths, that it always gets wrong.
        errors: ``diverse`` (solvers err on different problems, each in its own way) or ``shared`` (on the same ones, in
            the same way).
        slip_rate: probability of a random error on the other problems.
        largest: largest second number.
        draws: answers of each training problem, each by a solver drawn anew.
        num_train: training problems; None for all of the split (about 1,800).
        num_test: test problems.
        num_val: validation problems.
        draw_seed: key of the solvers' answers.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: a rate is out of range, or a split has fewer problems than asked for.

    Source: Zhang et al. 2024, arXiv:2406.11741, section 3 (the conditions), with additions in place of chess.
    """

    def __init__(
        self,
        *,
        blind_rates: list[float],
        errors: Errors = "diverse",
        slip_rate: float = 0.0,
        largest: int = 99,
        draws: int = 16,
        num_train: int | None = None,
        num_val: int = 0,
        num_test: int = 250,
        draw_seed: int = 0,
        prompt_template: str = "{question}",
        **settings: Any,
    ) -> None:
        super().__init__(prompt_template=prompt_template, **settings)
        if draws < 1 or not 1 <= largest <= 99:
            raise ValueError(f"data.draws={draws} must be at least 1, data.largest={largest} between 1 and 99")
        self.solvers = make_solvers(blind_rates, errors, slip_rate=slip_rate)
        self.best = min(self.solvers, key=lambda solver: solver.error_rate)
        self.largest, self.draws, self.draw_seed = largest, draws, draw_seed
        self.sizes: dict[Split, int | None] = {"train": num_train, "val": num_val, "test": num_test}

    def load_split(self, split: Split) -> list[Problem]:
        """The sums of a split, in an order that tells nothing."""
        low, high = SHARES[split]
        numbers = [(a, b) for a in FIRST for b in range(1, self.largest + 1)]
        own = [pair for pair in numbers if low <= keyed_hash("addition", *pair) / 2**64 < high]
        own = in_turn(sorted(own, key=lambda pair: keyed_hash("order", *pair)))
        size = self.sizes[split]
        if size is not None and size > len(own):
            raise ValueError(f"data.num_{split} is {size}, but there are {len(own)} {split} sums: ask for fewer")
        return [self._problem(split, a, b) for a, b in own[:size]]

    def _problem(self, split: Split, a: int, b: int) -> Problem:
        known = [solver.distribution(a, b) for solver in self.solvers]
        right = written(a + b)
        average = mixture(known)
        drawn: tuple[str, ...] = (right,)
        if split == "train":
            random = Random(f"{self.draw_seed}/{a}+{b}")
            drawn = tuple(random.choices(list(average), list(average.values()), k=self.draws))
        return Problem(
            id=f"sum/{a}+{b}",
            prompt=self.prompt(f"{a}+{b}="),
            answer=right,
            solutions=drawn,
            answer_style="last_number",
            metadata={
                "experts": {
                    "mixture": average,
                    "best": self.best.distribution(a, b).get(right, 0.0),
                    "mean": fmean(distribution.get(right, 0.0) for distribution in known),
                },
            },
        )
