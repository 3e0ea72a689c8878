"""What the samples look like, right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lightning_gfn.answers import extract_answer
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.types import EvalRecord


class CompletionStatistics(PerProblemMetric):
    """Mean length (tokens), mean entropy per action (nats), share of truncated samples and of samples with an answer.

    Keys: ``completion_length_mean``, ``entropy_mean``, ``truncated_share``, ``answered_share``.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("completion_length_mean", "entropy_mean", "truncated_share", "answered_share")

    def row(self, record: EvalRecord) -> Sequence[float]:
        style = record.problem.answer_style
        answered = [extract_answer(text, style) is not None for text in record.completions]
        return [fmean(record.lengths), fmean(record.entropies), fmean(record.truncated), fmean(answered)]
