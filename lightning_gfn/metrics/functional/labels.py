"""Label predictions averaged over rationales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def label_distributions(log_probs: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """log p(y | x, z_k) over the labels alone, (K, L), nats.

        log p(y | x, z) = ℓ_y − log Σ_y' exp(ℓ_y')

    Args:
        log_probs: ℓ of L labels behind each of K rationales, nats.

    Raises:
        ValueError: there is no rationale, rows differ in length, or a number is NaN.
    """
    rows = np.asarray(log_probs, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or np.isnan(rows).any():
        raise ValueError(f"log_probs must hold K rows of L numbers, got shape {rows.shape} or NaN")
    return np.asarray(rows - np.logaddexp.reduce(rows, axis=1, keepdims=True))


def model_average(log_probs: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Bayesian model averaging: log of the mean over rationales of p(y | x, z_k), (L,), nats.

        p(y | x) = (1 / K) Σ_k p(y | x, z_k),   z_k ~ q(z | x)

    Args:
        log_probs: of L labels behind each of K rationales, nats.

    Source: Hu et al. 2024, arXiv:2310.04363, section 4.3.
    """
    log_p = label_distributions(log_probs)
    return np.asarray(np.logaddexp.reduce(log_p, axis=0) - np.log(len(log_p)))


def argmax_share(log_p: NDArray[np.float64], place: int) -> float:
    """1 where a label is the most probable one, 1 / m where m labels share the first place, else 0."""
    first = log_p == log_p.max()
    return float(first[place]) / float(first.sum())


def swap_effect(log_probs: Sequence[Sequence[float]], swapped: Sequence[Sequence[float]], place: int) -> list[float]:
    """How predictions change with the rationales of another problem.

    Args:
        log_probs: of L labels behind each of K own rationales, nats.
        swapped: behind each of K rationales of another problem.
        place: of the right label.

    Returns:
        Share of the K pairs whose most probable label differs, and the mean of |log p − log p'| of the right label.
    """
    own, other = label_distributions(log_probs), label_distributions(swapped)
    pairs = min(len(own), len(other))
    own, other = own[:pairs], other[:pairs]
    changed = own.argmax(1) != other.argmax(1)
    return [float(changed.mean()), float(np.abs(own[:, place] - other[:, place]).mean())]
