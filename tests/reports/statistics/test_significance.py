"""p-values, Holm's correction and equivalence against enumeration, scipy and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap, Interval
from lightning_gfn.reports.statistics.significance import Difference, Equality, bootstrap_p_value, holm


def exact_bootstrap_p(difference_SP: np.ndarray) -> float:
    """The p-value over every possible draw of seeds and of problems, each with its probability."""
    num_seeds, num_problems = difference_SP.shape
    below = above = total = 0.0
    for seeds in itertools.product(range(num_seeds), repeat=num_seeds):
        for problems in itertools.product(range(num_problems), repeat=num_problems):
            mean = difference_SP[np.ix_(seeds, problems)].mean()
            below += mean <= 1e-12
            above += mean >= -1e-12
            total += 1
    return min(1.0, 2 * min(below, above) / total)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.7])
def test_p_value_equals_enumeration_of_all_resamples(shift: float) -> None:
    values_SP = np.random.default_rng(2).normal(size=(2, 4)).round(1) + shift
    bootstrap = HierarchicalBootstrap(num_resamples=40_000)
    means_b = bootstrap.difference_means(values_SP, np.zeros((2, 4)), paired_seeds=True)
    exact = exact_bootstrap_p(values_SP)
    assert 0.01 < exact <= 1
    assert bootstrap_p_value(means_b) == pytest.approx(exact, abs=0.01)
    assert abs(bootstrap_p_value(means_b + 0.2) - exact) > 0.01  # a shifted null would be noticed


def test_p_value_agrees_with_permutation_and_t_test_on_one_seed() -> None:
    rng = np.random.default_rng(1)
    left = rng.normal(0.15, 1.0, size=200)
    right = np.zeros(200)
    means_b = HierarchicalBootstrap(num_resamples=20_000).difference_means(left[None], right[None], paired_seeds=True)
    ours = bootstrap_p_value(means_b)
    flips = stats.permutation_test((left,), np.mean, permutation_type="samples", n_resamples=20_000, rng=rng).pvalue
    assert 0.01 < ours < 0.5
    assert ours == pytest.approx(flips, abs=0.02)
    assert ours == pytest.approx(stats.ttest_1samp(left, 0).pvalue, abs=0.02)


def test_false_alarms_keep_their_level() -> None:
    """No difference, 60 problems, one seed: 5% of the tests may reject."""
    rng = np.random.default_rng(2)
    bootstrap = HierarchicalBootstrap(num_resamples=1000)
    null = np.zeros((1, 60))
    p_values = [
        bootstrap_p_value(bootstrap.difference_means(rng.normal(size=(1, 60)), null, paired_seeds=True))
        for _ in range(800)
    ]
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.075
    assert stats.kstest(p_values, "uniform").statistic < 0.06


def test_p_value_inverts_the_interval() -> None:
    rng = np.random.default_rng(3)
    bootstrap = HierarchicalBootstrap(num_resamples=2000)
    for shift in np.linspace(-0.4, 0.4, 41):
        values_SP = rng.normal(shift, 1.0, size=(2, 80))
        means_b = bootstrap.means(values_SP)
        p = bootstrap_p_value(means_b)
        if abs(p - 0.05) > 0.003:
            assert (p < 0.05) == (bootstrap.percentiles(0.0, means_b).sign != 0)


def test_p_value_at_its_limits() -> None:
    assert bootstrap_p_value(np.full(999, 0.3)) == pytest.approx(2 / 1000)
    assert bootstrap_p_value(np.zeros(999)) == 1.0
    assert bootstrap_p_value(np.full(99, 1e-17)) == 1.0
    assert bootstrap_p_value(np.array([0.1] * 99 + [np.nan] * 900)) == pytest.approx(2 / 100)


def closed_testing(p_values: dict[str, float]) -> dict[str, float]:
    """Adjusted p-values by testing every intersection of hypotheses with Bonferroni's test (Holm is its short cut)."""
    adjusted = {}
    for key in p_values:
        worst = 0.0
        for size in range(len(p_values)):
            for others in itertools.combinations([k for k in p_values if k != key], size):
                together = [p_values[k] for k in (key, *others)]
                worst = max(worst, min(1.0, len(together) * min(together)))
        adjusted[key] = worst
    return adjusted


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_closed_testing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_values = dict(zip("abcdefg", (rng.random(7) ** 3).tolist(), strict=True))
    expected = closed_testing(p_values)
    found = holm(p_values)
    assert list(found) == list(p_values)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value)
    assert any(abs(found[k] - min(1.0, 7 * p)) > 1e-3 for k, p in p_values.items())  # not Bonferroni's


def test_holm_never_turns_the_order_round() -> None:
    assert holm({"a": 0.01, "b": 0.02, "c": 0.021}) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.04})
    assert holm({}) == {}


@pytest.mark.parametrize("shift", [-0.08, -0.03, 0.0, 0.02, 0.06])
def test_equality_is_two_one_sided_tests(shift: float) -> None:
    rng = np.random.default_rng(4)
    bootstrap = HierarchicalBootstrap(num_resamples=4000)
    means_b = bootstrap.means(rng.normal(shift, 0.1, size=(2, 100)))
    narrow = bootstrap.percentiles(0.0, means_b, level=0.9)
    found = Equality(bootstrap.percentiles(0.0, means_b), narrow.low, narrow.high, margin=0.05)
    below, above = np.mean(means_b <= -0.05), np.mean(means_b >= 0.05)
    assert found.equal == (max(below, above) <= 0.05)
    assert found.equal == (abs(shift) < 0.04)


def test_a_difference_is_shown_by_the_corrected_p_value() -> None:
    clear = Interval(0.3, 0.1, 0.5)
    assert Difference(clear, 0.01).sign == 1
    assert Difference(clear, 0.01, p_holm=0.2).sign == 0
    assert Difference(Interval(-0.3, -0.5, -0.1), 0.001, p_holm=0.01).sign == -1
    assert Difference(clear, 0.01).to_json()["p_holm"] is None


def test_missing_values_are_left_out_of_both_sums() -> None:
    values_SP = np.array([[1.0, np.nan, 3.0, 2.0], [np.nan, np.nan, 5.0, 1.0]])
    bootstrap = HierarchicalBootstrap(num_resamples=60)
    means_b = bootstrap.means(values_SP)
    seeds, problems = bootstrap._shares("seeds", 2), bootstrap._shares("problems", 4)
    for b in range(60):
        total = weight = 0.0
        for s in range(2):
            for p in range(4):
                if not math.isnan(values_SP[s, p]):
                    total += seeds[b, s] * problems[b, p] * values_SP[s, p]
                    weight += seeds[b, s] * problems[b, p]
        if weight:
            assert means_b[b] == pytest.approx(total / weight)
        else:
            assert math.isnan(means_b[b])
    assert bootstrap.interval(values_SP).value == pytest.approx(2.4)
    empty = bootstrap.interval(np.full((1, 3), np.nan))
    assert empty.to_json() == {"value": None, "ci95": [None, None]}
