"""The hierarchical bootstrap against scipy, a written loop and known limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap, Interval


def test_one_seed_is_the_plain_bootstrap_over_problems() -> None:
    values = np.random.default_rng(0).random(400)
    ours = HierarchicalBootstrap(num_resamples=20_000).interval(values[None])
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=1e-3)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=1e-3)


def test_resampled_means_equal_a_written_loop() -> None:
    values_SP = np.random.default_rng(2).random((3, 7))
    bootstrap = HierarchicalBootstrap(num_resamples=50)
    means = bootstrap.means(values_SP)
    seeds, problems = bootstrap._shares("seeds", 3), bootstrap._shares("problems", 7)
    for b in range(50):
        assert seeds[b].sum() == pytest.approx(1) and problems[b].sum() == pytest.approx(1)
        looped = sum(seeds[b, s] * problems[b, p] * values_SP[s, p] for s in range(3) for p in range(7))
        assert means[b] == pytest.approx(looped)


def test_spread_between_seeds_widens_the_interval() -> None:
    rng = np.random.default_rng(3)
    problems = rng.random(400)
    same = np.stack([problems] * 4)
    apart = same + np.array([-0.2, -0.1, 0.1, 0.2])[:, None]
    bootstrap = HierarchicalBootstrap()
    narrow, wide = bootstrap.interval(same), bootstrap.interval(apart)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_pairing_cancels_what_problems_share() -> None:
    rng = np.random.default_rng(4)
    hard = rng.random((1, 300))
    bootstrap = HierarchicalBootstrap()
    shifted = bootstrap.difference(hard + 0.05, hard, paired_seeds=True)
    assert shifted.low == pytest.approx(0.05) and shifted.high == pytest.approx(0.05) and shifted.sign == 1
    shuffled = bootstrap.difference(rng.permuted(hard, axis=1) + 0.05, hard, paired_seeds=True)
    assert shuffled.high - shuffled.low > 0.05


def test_seeds_are_paired_only_if_asked() -> None:
    values_SP = np.array([[0.0] * 5, [1.0] * 5])
    bootstrap = HierarchicalBootstrap()
    paired = bootstrap.difference(values_SP + 0.1, values_SP, paired_seeds=True)
    free = bootstrap.difference(values_SP + 0.1, values_SP, paired_seeds=False)
    assert paired.high - paired.low == pytest.approx(0)
    assert free.high - free.low > 1


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0.0, 0.1, 0)])
def test_sign_needs_the_whole_interval(low: float, high: float, sign: int) -> None:
    assert Interval(0.0, low, high).sign == sign
