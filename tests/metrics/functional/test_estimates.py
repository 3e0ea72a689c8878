"""Definitions of the metrics against enumeration, third-party packages and written loops."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from lightning_gfn.metrics.functional import estimates
from lightning_gfn.metrics.functional.estimates import bootstrap_ci, coverage, maj_at_k, pass_at_k


def pass_by_enumeration(n: int, c: int, k: int) -> float:
    draws = list(itertools.combinations(range(n), k))
    return sum(any(sample < c for sample in draw) for draw in draws) / len(draws)


def majority_by_enumeration(answers: list[str | None], correct: list[bool], k: int) -> float:
    total, count = Fraction(0), 0
    for draw in itertools.combinations(range(len(answers)), k):
        count += 1
        votes = Counter(answers[sample] for sample in draw if answers[sample] is not None)
        winners = [answer for answer, number in votes.items() if number == max(votes.values())]
        right = {answer for answer, is_correct in zip(answers, correct, strict=True) if is_correct}
        total += Fraction(sum(answer in right for answer in winners), len(winners)) if winners else 0
    return float(total / count)


def test_pass_at_k_is_the_enumerated_probability() -> None:
    for n in range(1, 9):
        for c, k in itertools.product(range(n + 1), range(1, n + 1)):
            assert pass_at_k(n, c, k) == pytest.approx(pass_by_enumeration(n, c, k), abs=1e-14)


def test_pass_at_k_of_one_in_eight() -> None:
    assert [pass_at_k(8, 1, k) for k in (1, 2, 4, 8)] == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize(("n", "c", "k"), [(10**6, 3, 1000), (10**6, 500_000, 7), (5000, 1, 2500), (2000, 1999, 3)])
def test_pass_at_k_of_many_samples_is_hypergeometric(n: int, c: int, k: int) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(stats.hypergeom(n, c, k).sf(0), rel=1e-8)


def test_pass_at_k_takes_arrays_tensors_and_numpy_numbers() -> None:
    correct = np.array([[0, 1, 2], [8, 4, 3]])
    values = pass_at_k(8, correct, 4)
    assert values.shape == correct.shape and values.dtype == np.float64
    assert values.tolist() == [[pass_at_k(8, int(c), 4) for c in row] for row in correct]
    assert isinstance(pass_at_k(np.int64(8), np.int64(1), 4), float)
    torch = pytest.importorskip("torch")
    tensor = pass_at_k(torch.tensor([8, 16]), torch.tensor([1, 2]), 8)
    assert torch.equal(tensor, torch.tensor([1.0, pass_at_k(16, 2, 8)], dtype=torch.float64))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0), (0, 0, 1)])
def test_pass_at_k_refuses_the_impossible(n: int, c: int, k: int) -> None:
    for wrap in (int, np.array):
        with pytest.raises(ValueError, match="^(k|num_correct): "):
            pass_at_k(wrap(n), wrap(c), k)


def test_majority_is_the_enumerated_expectation() -> None:
    generator = random.Random(0)
    values = []
    for _ in range(150):
        n = generator.randrange(1, 9)
        answers = generator.choices(["a", "b", "c", "d", None], k=n)
        correct = [answer == "a" for answer in answers]
        for k in range(1, n + 1):
            values.append(maj_at_k(answers, correct, k))
            assert values[-1] == pytest.approx(majority_by_enumeration(answers, correct, k), abs=1e-14)
    assert 0.0 in values and 1.0 in values and len(set(values)) > 30


def test_majority_by_hand() -> None:
    assert maj_at_k(["1", "1", "2"], [True, True, False], 3) == 1.0
    assert maj_at_k(["1", "2"], [True, False], 2) == 0.5
    assert maj_at_k(["1", None, None], [True, False, False], 3) == 1.0
    assert maj_at_k([None, None], [False, False], 2) == 0.0
    assert maj_at_k(["1", "2", "2"], [True, False, False], 1) == pytest.approx(1 / 3)
    assert maj_at_k(["1", "2", "2"] * 2, [True, False, False] * 2, 6) == 0.0


def test_majority_of_many_samples_is_quick_and_a_probability() -> None:
    answers = [str(sample % 7) if sample % 5 else None for sample in range(64)]
    total = sum(maj_at_k(answers, [answer == str(right) for answer in answers], 32) for right in range(7))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_majority_refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="k: "):
        maj_at_k(["1"], [True], 2)
    with pytest.raises(ValueError, match="correct: 2 verdicts for 1 answers"):
        maj_at_k(["1"], [True, True], 1)


def test_a_biased_estimate_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "_pass_at_k", lambda n, c, k: 1 - (1 - c / n) ** k)
    with pytest.raises(AssertionError):
        test_pass_at_k_is_the_enumerated_probability()


def test_abstentions_that_vote_would_be_noticed() -> None:
    answers = ["1", None, None]
    assert maj_at_k(answers, [True, False, False], 3) != maj_at_k([str(a) for a in answers], [True, False, False], 3)


def test_coverage_counts_paths_not_texts() -> None:
    known = {"a b": "first", "a  c": "first", "d": "second", "e": "third"}
    assert coverage(["a\n b", "a c", "nothing"], known) == pytest.approx(1 / 3)
    assert coverage(["a b", "d", "e", "e"], known) == 1.0
    assert coverage([], known) == 0.0
    with pytest.raises(ValueError, match="solution_set"):
        coverage(["a"], {})


def test_bootstrap_matches_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=200)
    low, high = bootstrap_ci(values, seed=1)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    normal = 1.96 * values.std() / math.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(normal, rel=0.05)


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    draws = generator.binomial(8, 0.4, (300, 100)) / 8
    intervals = [bootstrap_ci(row, 0.9, num_resamples=400, seed=index) for index, row in enumerate(draws)]
    share = np.mean([low <= 0.4 <= high for low, high in intervals])
    assert 0.85 < share < 0.95


def test_bootstrap_is_seeded_and_does_not_depend_on_its_chunks() -> None:
    values = np.random.default_rng(0).random(3000)
    assert bootstrap_ci(values, num_resamples=1500, seed=4) == bootstrap_ci(values, num_resamples=1500, seed=4)
    assert bootstrap_ci(values, num_resamples=1500, seed=4) != bootstrap_ci(values, num_resamples=1500, seed=5)
    whole = np.random.default_rng(4).integers(0, 3000, (1500, 3000))
    expected = np.quantile(values[whole].mean(axis=1), [0.025, 0.975])
    assert bootstrap_ci(values, num_resamples=1500, seed=4) == pytest.approx(tuple(expected), abs=1e-12)
    assert bootstrap_ci([0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(("values", "level"), [([], 0.95), ([1.0], 1.0), ([1.0], 0.0)])
def test_bootstrap_refuses_wrong_arguments(values: list[float], level: float) -> None:
    with pytest.raises(ValueError, match="^(values|level): "):
        bootstrap_ci(values, level)
