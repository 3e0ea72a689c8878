"""A model beside the experts who wrote its training data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.mixtures import tempered_by_letter
from lightning_gfn.types import EvalRecord


class Transcendence(PerProblemMetric):
    """Solve rate beside that of the best expert, of the average one, and of a perfect imitator at the same temperature.

        gain_over_best_expert = solve rate − R(f_best),     f_best = argmax_i R(f_i)
        imitator_solve_rate = Σ_{y right} q_τ(y),           q_τ: the experts' average, each letter at temperature τ

    Transcendence is a positive mean gain. ``best_expert`` and ``mean_expert`` do not depend on the temperature. Reads
    ``metadata["experts"]`` of the problem: ``mixture`` (completion → probability), ``best`` and ``mean``, and which
    completions are right, ``right``, where that is not the answer alone; other problems have no values.

    Source: Zhang et al. 2024, arXiv:2406.11741, section 2.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("gain_over_best_expert", "best_expert", "mean_expert", "imitator_solve_rate")

    def row(self, record: EvalRecord) -> Sequence[float]:
        experts = record.problem.metadata.get("experts")
        if experts is None:
            return [math.nan] * len(self.keys)
        right = set(experts.get("right", (record.problem.answer,)))
        imitated = tempered_by_letter(experts["mixture"], record.temperature)
        share = math.fsum(q for text, q in imitated.items() if text in right)
        return [fmean(record.correct) - experts["best"], experts["best"], experts["mean"], share]
