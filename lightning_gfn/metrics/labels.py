"""Metrics of classifications: predictions averaged over rationales, their calibration, and whether rationales count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.calibration import expected_calibration_error, reliability_bins
from lightning_gfn.metrics.functional.labels import argmax_share, model_average, swap_effect
from lightning_gfn.types import EvalRecord


class LabelPrediction(PerProblemMetric):
    """Predictions of labels by Bayesian model averaging over the K rationales that were sampled.

        p(y | x) = (1 / K) Σ_k p(y | x, z_k),   each term normalised over the labels

    ``label_accuracy`` is 1 where the most probable label is right (ties share it), ``label_log_prob`` log p of the
    right label (nats), ``label_confidence`` p of the most probable one, ``label_brier`` Σ_y (p(y) − [y is right])².
    ``distinct_rationales`` counts different rationales, 0 where labels are asked for at once. Behind the rationales of
    another problem (``evaluation.swap_rationales``) ``rationale_effect`` is the share of the K predictions that change
    and ``rationale_shift`` the mean |Δ log p| of the right label (nats). The majority vote is ``maj_at_K``. Of all
    problems together, ``label_calibration_error`` is the expected calibration error of the confidence.

    Args:
        num_bins: bins of equal width of the calibration error.

    Source: Hu et al. 2024, arXiv:2310.04363, section 4.3; ``metrics.functional.calibration``.
    """

    def __init__(self, num_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_bins < 1:
            raise ValueError(f"num_bins is {num_bins}, expected at least 1")
        self.num_bins = num_bins

    @property
    def keys(self) -> tuple[str, ...]:
        return (
            "label_accuracy", "label_log_prob", "label_confidence", "label_brier", "distinct_rationales",
            "rationale_effect", "rationale_shift",
        )  # fmt: skip

    def row(self, record: EvalRecord) -> Sequence[float]:
        labels, answer = record.problem.labels, record.problem.answer
        if labels is None or answer is None or answer not in labels or not record.label_log_probs:
            return [math.nan] * len(self.keys)
        place = list(labels).index(answer)
        log_p = model_average(record.label_log_probs)
        p, right = np.exp(log_p), np.arange(len(log_p)) == place
        latent = record.problem.evidence is not None
        swapped = record.swapped_label_log_probs
        return [
            argmax_share(log_p, place),
            float(log_p[place]),
            float(p.max()),
            float(((p - right) ** 2).sum()),
            float(len(set(record.completions))) if latent else 0.0,
            *(swap_effect(record.label_log_probs, swapped, place) if swapped else (math.nan, math.nan)),
        ]

    def pooled(self, values_PK: NDArray[np.float64]) -> dict[str, float]:
        """The calibration error over all problems that have a prediction."""
        found = dict(zip(self.keys, values_PK.T, strict=True))
        confidence, hits = found["label_confidence"], found["label_accuracy"]
        known = ~np.isnan(confidence)
        if not known.any():
            return {}
        bins = reliability_bins(np.clip(confidence[known], 0.0, 1.0), hits[known], num_bins=self.num_bins)
        return {"label_calibration_error": expected_calibration_error(bins)}
