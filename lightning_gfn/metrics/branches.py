"""Accuracy of decoding that draws nothing: greedy, and by the confidence of answers behind several first tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.branches import chosen_branch
from lightning_gfn.types import EvalRecord


class BranchAccuracy(PerProblemMetric):
    """Share of problems that greedy and chain-of-thought decoding solve, over problems that were so decoded.

    ``solve_rate_greedy`` is that of the branch behind the most probable first token, ``solve_rate_cot`` that of the
    answer with the largest sum of confidences over branches, ``solve_rate_cot_single`` that of the one most confident
    branch. None of them depends on the temperature; ``evaluation.branches`` turns the decoding on.

    Source: Wang & Zhou 2024, arXiv:2402.10200.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("solve_rate_greedy", "solve_rate_cot", "solve_rate_cot_single")

    def row(self, record: EvalRecord) -> Sequence[float]:
        if not record.branches:
            return [math.nan] * 3
        aggregated = chosen_branch(record.branches)
        single = max(record.branches, key=lambda branch: branch.confidence)
        return [
            float(record.branches[0].correct),
            float(aggregated is not None and aggregated.correct),
            float(single.correct),
        ]
