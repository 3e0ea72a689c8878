"""Calibration and AUROC against torchmetrics, sorted loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_calibration_error

from lightning_gfn.metrics.functional.calibration import (
    accuracy,
    auroc,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)


def drawn(n: int = 500, seed: int = 0, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn with them (moved by a bias)."""
    generator = np.random.default_rng(seed)
    p = generator.beta(2, 1.5, n)
    return p, (generator.random(n) < np.clip(p + bias, 0, 1)).astype(float)


@pytest.mark.parametrize("num_bins", [1, 7, 15])
@pytest.mark.parametrize("bias", [0.0, -0.3])
def test_equal_width_agrees_with_torchmetrics(num_bins: int, bias: float) -> None:
    p, y = drawn(bias=bias)
    expected = binary_calibration_error(torch.tensor(p), torch.tensor(y).long(), n_bins=num_bins, norm="l1")
    found = expected_calibration_error(reliability_bins(p, y, num_bins=num_bins))
    assert found == pytest.approx(expected.item(), abs=1e-6)


def test_auroc_agrees_with_torchmetrics_and_with_counting_pairs() -> None:
    p, y = drawn()
    assert auroc(p, y) == pytest.approx(binary_auroc(torch.tensor(p), torch.tensor(y).long()).item(), abs=1e-6)
    coarse = np.round(p, 1)
    positive, negative = coarse[y == 1], coarse[y == 0]
    wins = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    assert auroc(coarse, y) == pytest.approx(wins / (len(positive) * len(negative)))


def test_auroc_limits() -> None:
    assert auroc([0.1, 0.2, 0.8], [0, 0, 1]) == 1.0
    assert auroc([0.9, 0.8, 0.1], [0, 0, 1]) == 0.0
    assert auroc([0.5, 0.5], [0, 1]) == 0.5
    assert math.isnan(auroc([0.5, 0.4], [1, 1]))
    p, y = drawn()
    assert auroc(-p, y) == pytest.approx(1 - auroc(p, y))


def test_equal_mass_written_loop() -> None:
    p, y = drawn(103)
    order = sorted(range(103), key=lambda i: p[i])
    sizes = [103 // 10 + (k < 103 % 10) for k in range(10)]
    total, start = 0.0, 0
    for size in sizes:
        part = order[start : start + size]
        total += abs(sum(y[i] for i in part) - sum(p[i] for i in part))
        start += size
    bins = reliability_bins(p, y, num_bins=10, scheme="mass")
    assert [found.count for found in bins] == sizes
    assert expected_calibration_error(bins) == pytest.approx(total / 103)


def test_closed_forms() -> None:
    assert expected_calibration_error(reliability_bins([0.75] * 4, [1, 1, 1, 0])) == pytest.approx(0.0)
    assert expected_calibration_error(reliability_bins([0.9, 0.9, 0.1], [0, 0, 1])) == pytest.approx(0.9)
    assert brier_score([0.5, 1.0, 0.0], [1, 1, 1]) == pytest.approx((0.25 + 0 + 1) / 3)
    assert accuracy([0.9, 0.4, 0.5, 0.6], [1, 0, 1, 0]) == pytest.approx(2.5 / 4)


def test_every_prediction_is_in_one_bin() -> None:
    p = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    for scheme in ("width", "mass"):
        bins = reliability_bins(p, p, num_bins=5, scheme=scheme)  # type: ignore[arg-type]
        assert sum(found.count for found in bins) == 6
        assert all(found.low <= found.confidence <= found.high for found in bins)
    assert [found.count for found in reliability_bins(p, p, num_bins=5)] == [2, 1, 1, 1, 1]


def test_calibrated_labels_have_less_error_than_moved_ones() -> None:
    errors = [expected_calibration_error(reliability_bins(*drawn(4000, bias=bias))) for bias in (0.0, -0.2)]
    assert errors[0] < 0.05 < 0.12 < errors[1]


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [([0.5], [0, 1], "one length"), ([1.5], [1], "probabilities must"), ([0.5], [2], "labels must"), ([], [], "one")],
)
def test_bad_arguments_are_named(p: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_bins(p, y)
    with pytest.raises(ValueError, match=message):
        brier_score(p, y)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="num_bins is 0"):
        reliability_bins([0.5], [1], num_bins=0)
    with pytest.raises(ValueError, match="scheme is 'size'"):
        reliability_bins([0.5], [1], scheme="size")  # type: ignore[arg-type]
