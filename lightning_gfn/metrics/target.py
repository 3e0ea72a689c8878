"""Metrics of exactness compare a policy with a target distribution that the data enumerate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.target import log_z_estimate, target_fit
from lightning_gfn.types import EvalRecord


class TargetDistance(PerProblemMetric):
    """Distances between q and the target p of a problem, by exact sums over every completion with mass.

        target_mass = Σ q,   total_variation = ½ Σ |q − p| over all completions,   kl_to_target = KL(q | valid ‖ p)

    ``total_variation_valid`` is that of q given that it is valid, ``kl_from_target`` KL(p ‖ q). The gaps
    ``elbo_gap`` and ``eubo_gap`` are log Z − ELBO and EUBO − log Z; ``log_z`` is exact and ``log_z_estimate`` comes
    from the samples. ``log_q_slope`` is the slope of log q against log R, ``log_q_spread`` the standard deviation of
    their difference. Everything is at temperature 1; problems without a target have no values.

    Source: ``metrics.functional.target``.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return (
            "target_mass", "total_variation", "total_variation_valid", "kl_to_target", "kl_from_target", "elbo_gap",
            "eubo_gap", "log_z", "log_z_estimate", "log_q_slope", "log_q_spread",
        )  # fmt: skip

    def row(self, record: EvalRecord) -> Sequence[float]:
        target = record.problem.target
        if target is None or not record.target_log_probs:
            return [math.nan] * len(self.keys)
        fit = target_fit(list(target.values()), record.target_log_probs)
        weights = [target.get(completion, -math.inf) for completion in record.completions]
        estimate = log_z_estimate(weights, record.log_probs) if record.temperature == 1.0 else math.nan
        values = [
            fit.mass, fit.total_variation, fit.total_variation_valid, fit.kl_valid, fit.kl_forward,
            fit.log_z - fit.elbo, fit.eubo - fit.log_z, fit.log_z, estimate, fit.slope, fit.spread,
        ]  # fmt: skip
        return [value if math.isfinite(value) else math.nan for value in values]
