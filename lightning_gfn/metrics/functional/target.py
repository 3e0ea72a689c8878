"""How far a policy is from a target distribution whose completions are known: exact sums over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TargetFit:
    """A policy q beside a target p = exp(w) / Z over K completions; q may give further completions the rest.

    Args:
        mass: Σ_k q_k, what q gives the completions of the target.
        total_variation: ½ (Σ_k |q_k − p_k| + 1 − mass).
        total_variation_valid: ½ Σ_k |q_k / mass − p_k|, among valid completions.
        kl_valid: KL(q / mass ‖ p), nats: of the policy where it is valid.
        kl_forward: KL(p ‖ q), nats; invalid mass counts.
        log_z: log Σ_k exp(w_k), nats.
        elbo: Σ_k (q_k / mass) (w_k − log (q_k / mass)), nats: log Z less ``kl_valid``.
        eubo: Σ_k p_k (w_k − log q_k), nats: log Z plus ``kl_forward``.
        slope: of log q against w, weighted by p; 1 where q has the target's proportions. NaN for a uniform target.
        spread: standard deviation of log q − w under p, nats; 0 where q has the target's proportions.
    """

    mass: float
    total_variation: float
    total_variation_valid: float
    kl_valid: float
    kl_forward: float
    log_z: float
    elbo: float
    eubo: float
    slope: float
    spread: float


def log_sum_exp(values: NDArray[np.float64]) -> float:
    """log Σ exp of numbers that may be −inf, not all of them."""
    largest = values.max()
    return float(largest + np.log(np.exp(values - largest).sum()))


def target_fit(log_weights: Sequence[float], log_probs: Sequence[float]) -> TargetFit:
    """Compare a policy with a target over K completions.

    Args:
        log_weights: w_k, nats, finite.
        log_probs: log q_k, nats; −inf for what the policy never produces.

    Raises:
        ValueError: the lengths differ, there are none, a weight is not finite, or a probability exceeds 1.

    Source: EUBO: Blessing et al. 2024, arXiv:2406.07423, section 3.
    """
    w, log_q = np.asarray(log_weights, dtype=np.float64), np.asarray(log_probs, dtype=np.float64)
    if w.ndim != 1 or w.shape != log_q.shape or not len(w):
        raise ValueError(f"log_weights and log_probs must be vectors of one length, got {w.shape} and {log_q.shape}")
    if not np.isfinite(w).all():
        raise ValueError("log_weights must be finite: leave out completions without mass")
    log_mass = log_sum_exp(log_q) if np.isfinite(log_q).any() else -math.inf
    if log_mass > 1e-3 or np.isnan(log_q).any():
        raise ValueError(f"log_probs add up to exp({log_mass:.3g}), more than a policy has")
    log_z, q = log_sum_exp(w), np.exp(log_q)
    log_p = w - log_z
    p, mass = np.exp(log_p), min(1.0, math.exp(log_mass))
    seen = q > 0
    log_valid = log_q - log_mass if mass > 0 else np.full_like(log_q, -math.inf)
    kl_valid = float((np.exp(log_valid[seen]) * (log_valid[seen] - log_p[seen])).sum()) if mass > 0 else math.inf
    kl_forward = float((p * (log_p - log_q)).sum()) if seen.all() else math.inf
    valid_distance = 0.5 * float(np.abs(np.exp(log_valid) - p).sum()) if mass > 0 else 1.0
    slope, spread = proportions(w, log_q, p) if seen.all() else (math.nan, math.inf)
    return TargetFit(
        mass=mass,
        total_variation=0.5 * (float(np.abs(q - p).sum()) + 1.0 - mass),
        total_variation_valid=valid_distance,
        kl_valid=kl_valid,
        kl_forward=kl_forward,
        log_z=log_z,
        elbo=log_z - kl_valid,
        eubo=log_z + kl_forward,
        slope=slope,
        spread=spread,
    )


def proportions(w: NDArray[np.float64], log_q: NDArray[np.float64], p: NDArray[np.float64]) -> tuple[float, float]:
    """Slope of log q against log weights, and the standard deviation of their difference, both weighted by p."""
    centred_w, centred_q = w - (p * w).sum(), log_q - (p * log_q).sum()
    variance = float((p * centred_w**2).sum())
    slope = float((p * centred_w * centred_q).sum() / variance) if variance > 1e-12 else math.nan
    return slope, math.sqrt(float((p * (centred_q - centred_w) ** 2).sum()))


@dataclass(frozen=True)
class SampleFit:
    """Samples of a policy q beside a target whose log weights w = log R are known for them alone.

    Args:
        elbo: mean of w − log q, nats: at most log Z, in expectation.
        log_z: log of the mean of exp(w − log q), nats: the importance-weighted estimate of log Z.
        effective: (Σ r)² / (n Σ r²) with r = exp(w − log q), in (0, 1]: the share of the samples that the weights
            leave.
        slope: of log q against w over the samples; NaN where all w are equal. 1 where q has the target's proportions.
        spread: standard deviation of log q − w over the samples, nats; 0 where q has the target's proportions.
    """

    elbo: float
    log_z: float
    effective: float
    slope: float
    spread: float


def sample_fit(log_weights: Sequence[float], log_probs: Sequence[float]) -> SampleFit:
    """Compare a policy with an unnormalised target on samples.

    ELBO, log Z and the effective share are estimates only for samples of q itself.

    Args:
        log_weights: w_i = log R of each of n samples, nats, finite.
        log_probs: log q of each, nats, finite.

    Raises:
        ValueError: the lengths differ, there are none, or a number is not finite.

    Source: Burda et al. 2016, arXiv:1509.00519 (log Z); Kong 1992 (effective sample size).
    """
    w, log_q = np.asarray(log_weights, dtype=np.float64), np.asarray(log_probs, dtype=np.float64)
    if w.ndim != 1 or w.shape != log_q.shape or not len(w):
        raise ValueError(f"log_weights and log_probs must be vectors of one length, got {w.shape} and {log_q.shape}")
    if not (np.isfinite(w).all() and np.isfinite(log_q).all()):
        raise ValueError("log_weights and log_probs of samples must be finite")
    ratio = w - log_q
    log_sum = log_sum_exp(ratio)
    slope, spread = proportions(w, log_q, np.full(len(w), 1.0 / len(w)))
    return SampleFit(
        elbo=float(ratio.mean()),
        log_z=log_sum - math.log(len(w)),
        effective=math.exp(2.0 * log_sum - log_sum_exp(2.0 * ratio)) / len(w),
        slope=slope,
        spread=spread,
    )


def log_z_estimate(log_weights: Sequence[float], log_probs: Sequence[float]) -> float:
    """log Z estimated from samples of q by importance weights, nats.

        log Ẑ = log (1/n) Σ_i exp(w(z_i) − log q(z_i)),  z_i ~ q

    Args:
        log_weights: w of each sample; −inf without mass.
        log_probs: log q of each sample.

    Returns:
        The estimate; −inf if no sample has mass. Its expectation lies below log Z (Jensen).

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8.
    """
    ratio = np.asarray(log_weights, dtype=np.float64) - np.asarray(log_probs, dtype=np.float64)
    return log_sum_exp(ratio) - math.log(len(ratio)) if np.isfinite(ratio).any() else -math.inf
