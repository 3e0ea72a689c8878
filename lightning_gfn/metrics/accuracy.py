"""Accuracy metrics measure how often samples are right: solve rate, pass@k and maj@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning_gfn.answers import canonical_answer
from lightning_gfn.answers.given import answers_of
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.estimates import maj_at_k, pass_at_k
from lightning_gfn.types import EvalRecord


class SolveRate(PerProblemMetric):
    """Share of correct samples: ``solve_rate``, which is pass@1."""

    judges = True

    @property
    def keys(self) -> tuple[str, ...]:
        return ("solve_rate",)

    def row(self, record: EvalRecord) -> Sequence[float]:
        return [sum(record.correct) / len(record.correct)]


class PassAtK(PerProblemMetric):
    """Unbiased pass@k: ``pass_at_8`` and so on.

    Args:
        ks: numbers of draws; each at most the number of samples of a problem.
    """

    judges = True

    def __init__(self, ks: Sequence[int] = (1, 8), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ks = _require_positive(ks)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"pass_at_{k}" for k in self.ks)

    def row(self, record: EvalRecord) -> Sequence[float]:
        return [pass_at_k(len(record.correct), sum(record.correct), k) for k in self.ks]


class MajorityAtK(PerProblemMetric):
    """Expected accuracy of the majority vote of k samples: ``maj_at_8`` and so on.

    Answers vote by their canonical form; samples without an answer abstain; ties are broken uniformly. Proofs have no
    answers to vote on: theorems are left out.

    Args:
        ks: numbers of voters; each at most the number of samples of a problem.
    """

    judges = True

    def __init__(self, ks: Sequence[int] = (8,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ks = _require_positive(ks)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"maj_at_{k}" for k in self.ks)

    def row(self, record: EvalRecord) -> Sequence[float]:
        if record.problem.theorem is not None:
            return [math.nan] * len(self.ks)
        votes = [canonical_answer(answer) if answer is not None else None for answer in answers_of(record)]
        return [maj_at_k(votes, record.correct, k) for k in self.ks]


def _require_positive(ks: Sequence[int]) -> tuple[int, ...]:
    if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
        raise ValueError(f"ks: need different whole numbers of at least 1, not {list(ks)}")
    return tuple(ks)
