"""Retention metrics measure how likely a policy still finds the reference solutions of the supervised task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.types import EvalRecord


class ReferenceNll(PerProblemMetric):
    """Negative log-likelihood of a problem's reference solutions, nats per action, over problems that were scored.

        reference_nll = -Σ_r log q(solution_r, stop | prompt) / Σ_r actions_r
        reference_nll_worst = max_r [-log q(solution_r, stop | prompt) / actions_r]

    The second one rises as soon as one way of solving is forgotten. Both are at temperature 1 and do not depend on
    samples; ``evaluation.score_references`` turns the scoring on.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("reference_nll", "reference_nll_worst")

    def row(self, record: EvalRecord) -> Sequence[float]:
        if not record.reference_log_probs:
            return [math.nan, math.nan]
        pairs = list(zip(record.reference_log_probs, record.reference_actions, strict=True))
        worst = max(-log_prob / actions for log_prob, actions in pairs)
        return [-math.fsum(record.reference_log_probs) / sum(record.reference_actions), worst]
