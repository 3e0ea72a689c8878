"""Metrics of exactness compare a policy with its target: one that the data enumerate, or log rewards of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.target import log_z_estimate, sample_fit, target_fit
from lightning_gfn.types import EvalRecord


def is_from_policy(record: EvalRecord) -> bool:
    """True if the samples are draws of the policy itself, as estimates of log Z need them."""
    return record.is_drawn and record.temperature == 1.0


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
        estimate = log_z_estimate(weights, record.log_probs) if is_from_policy(record) else math.nan
        values = [
            fit.mass, fit.total_variation, fit.total_variation_valid, fit.kl_valid, fit.kl_forward,
            fit.log_z - fit.elbo, fit.eubo - fit.log_z, fit.log_z, estimate, fit.slope, fit.spread,
        ]  # fmt: skip
        return [value if math.isfinite(value) else math.nan for value in values]


class SampledTarget(PerProblemMetric):
    """Exactness where completions can be scored but not enumerated: log q beside log R over a problem's samples.

        sample_slope, sample_spread: of log q against log R; 1 and 0 where q is proportional to R
        sample_elbo = mean (log R − log q) ≤ log Z,        sample_log_z = log mean exp(log R − log q)
        sample_effective = (Σ r)² / (n Σ r²), r = R / q

    All but the slope only of samples of the policy itself, temperature 1 and nothing cut: others lie in a narrower
    range, where any policy has less spread. R is tempered as at the end of the
    reward's schedules. Problems without log rewards have no values.

    Source: ``metrics.functional.target``.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("sample_slope", "sample_spread", "sample_elbo", "sample_log_z", "sample_effective")

    def row(self, record: EvalRecord) -> Sequence[float]:
        if not record.log_rewards:
            return [math.nan] * len(self.keys)
        fit = sample_fit(record.log_rewards, record.log_probs)
        if not is_from_policy(record):
            return [fit.slope, *[math.nan] * 4]
        spread = fit.spread if len(record.log_rewards) > 1 else math.nan
        return [fit.slope, spread, fit.elbo, fit.log_z, fit.effective]


class LogLikelihood(PerProblemMetric):
    """Log-likelihood of the samples under the frozen reference, nats: ``log_likelihood`` and ``log_likelihood_max``.

    Mean and largest over the samples of a problem, stops included; problems whose reward has no such term have none.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("log_likelihood", "log_likelihood_max")

    def row(self, record: EvalRecord) -> Sequence[float]:
        values = record.log_likelihoods
        return [math.fsum(values) / len(values), max(values)] if values else [math.nan, math.nan]
