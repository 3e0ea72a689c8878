"""Completion statistics describe all samples, right or wrong: length, entropy, truncation, answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from lightning_gfn.answers.given import answers_of
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.types import EvalRecord


class CompletionStatistics(PerProblemMetric):
    """Mean length (tokens), mean entropy per action (nats), share of truncated samples and of samples with an answer.

    Keys: ``completion_length_mean``, ``entropy_mean``, ``truncated_share``, ``answered_share``; proofs have no answers,
    and texts that nothing but a log reward judges need none, so that both are left out of the last one.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("completion_length_mean", "entropy_mean", "truncated_share", "answered_share")

    def row(self, record: EvalRecord) -> Sequence[float]:
        return [fmean(record.lengths), fmean(record.entropies), fmean(record.truncated), self.answered(record)]

    @staticmethod
    def answered(record: EvalRecord) -> float:
        """Share of the samples that hold an answer; NaN for a theorem."""
        if record.problem.theorem is not None or not record.is_judged:
            return math.nan
        return fmean(answer is not None for answer in answers_of(record))
