"""Calibration measures judge probabilities of being right: order (AUROC), calibration (ECE), both (Brier)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scheme = Literal["width", "mass"]


@dataclass(frozen=True)
class Bin:
    """Predictions of similar probability.

    Args:
        low: smallest probability of the bin (equal mass) or its lower edge (equal width).
        high: largest probability, or upper edge.
        count: predictions in it.
        confidence: their mean probability.
        frequency: mean of their labels: how often they are right.
    """

    low: float
    high: float
    count: int
    confidence: float
    frequency: float


def checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 vectors of one length.

    Raises:
        ValueError: names what is wrong with them.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        raise ValueError(f"probabilities and labels must be vectors of one length, got {p.shape} and {y.shape}")
    for name, values in (("probabilities", p), ("labels", y)):
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(f"{name} must lie in [0, 1]")
    return p, y


def reliability_bins(
    probabilities: ArrayLike, labels: ArrayLike, *, num_bins: int = 15, scheme: Scheme = "width"
) -> list[Bin]:
    """Confidence and frequency of predictions by bins of probability; empty bins are left out.

    Args:
        probabilities: predicted probabilities of label 1.
        labels: 0 or 1 (or shares between).
        num_bins: K.
        scheme: ``width`` cuts [0, 1] into K intervals of one width, closed above (the first on both sides); ``mass``
            cuts the predictions in order of probability into K runs that differ in size by one at most. Equal
            probabilities may fall into two of these.

    Raises:
        ValueError: names the argument that is wrong.
    """
    p, y = checked(probabilities, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, expected at least 1")
    if scheme == "width":
        edges = np.linspace(0.0, 1.0, num_bins + 1)
        index = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, num_bins - 1)
        groups = [np.flatnonzero(index == k) for k in range(num_bins)]
        bounds = list(zip(edges[:-1], edges[1:], strict=True))
    elif scheme == "mass":
        groups = [part for part in np.array_split(np.argsort(p, kind="stable"), num_bins) if len(part)]
        bounds = [(p[part].min(), p[part].max()) for part in groups]
    else:
        raise ValueError(f"scheme is {scheme!r}, expected width or mass")
    return [
        Bin(float(low), float(high), len(part), float(p[part].mean()), float(y[part].mean()))
        for part, (low, high) in zip(groups, bounds, strict=True)
        if len(part)
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance between confidence and frequency, over predictions.

        ECE = Σ_k (n_k / n) |frequency_k - confidence_k|

    Source: Guo et al. 2017, arXiv:1706.04599, equation 3; bins of equal mass: Nixon et al. 2019, arXiv:1904.01685.
    """
    total = sum(found.count for found in bins)
    return sum(found.count * abs(found.frequency - found.confidence) for found in bins) / total


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a random positive scores above a random negative; ties count half.

        AUROC = (Σ ranks of positives - n₊ (n₊ + 1) / 2) / (n₊ n₋),      ties share their mean rank

    Args:
        scores: any numbers that order the predictions.
        labels: positive where above one half.

    Returns:
        NaN if there are no positives or no negatives.

    Raises:
        ValueError: the arguments are no vectors of one length.
    """
    s, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64) > 0.5
    if s.ndim != 1 or s.shape != positive.shape:
        raise ValueError(f"scores and labels must be vectors of one length, got {s.shape} and {positive.shape}")
    num_positive = int(positive.sum())
    num_negative = len(s) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2.0
    rank_sum = float(mean_rank[inverse][positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2.0) / (num_positive * num_negative)


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance between probability and label.

    Source: Brier 1950, Monthly Weather Review 78.
    """
    p, y = checked(probabilities, labels)
    return float(np.mean((p - y) ** 2))


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Share of predictions on the same side of one half as their label; a probability of one half is half right."""
    p, y = checked(probabilities, labels)
    return float(np.mean(np.where(p == 0.5, 0.5, (p > 0.5) == (y > 0.5))))
