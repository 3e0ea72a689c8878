"""Distinct correct solutions against rouge-score, written loops and all orders."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightning_gfn.metrics.functional.estimates import (
    distinct_correct,
    distinct_correct_components,
    distinct_correct_expected,
)
from lightning_gfn.similarity import counting, rouge
from lightning_gfn.similarity.counting import components, distinct_in_order, expected_distinct
from lightning_gfn.similarity.rouge import rouge_l_f1_matrix

GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@pytest.fixture(scope="module")
def reference_f1() -> Callable[[str, str], float]:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    return lambda target, prediction: scorer.score(target, prediction)["rougeL"].fmeasure


def random_solutions(generator: random.Random, count: int, length: int = 12) -> list[str]:
    words = ["She", "has", "5", "x", "12", "apples,", "and", "=", "İ", "é", "a_b", "1,200", "\n", "don't"]
    return [" ".join(generator.choices(words, k=generator.randrange(length))) for _ in range(count)]


def random_graph(generator: random.Random, size: int, density: float) -> np.ndarray:
    similar = np.eye(size, dtype=bool)
    for first, second in itertools.combinations(range(size), 2):
        similar[first, second] = similar[second, first] = generator.random() < density
    return similar


def greedy_by_rouge_score(
    texts: list[str], correct: list[bool], threshold: float, f1: Callable[[str, str], float]
) -> int:
    kept: list[str] = []
    for text, is_correct in zip(texts, correct, strict=True):
        if is_correct and all(f1(text, other) < threshold and text.strip() != other.strip() for other in kept):
            kept.append(text)
    return len(kept)


def test_matrix_equals_rouge_score_on_random_pairs(reference_f1: Callable[[str, str], float]) -> None:
    texts = random_solutions(random.Random(0), 80)
    matrix = rouge_l_f1_matrix(texts)
    expected = [[reference_f1(first, second) for second in texts] for first in texts]
    assert np.array_equal(matrix, np.array(expected))
    assert len(set(matrix.ravel().tolist())) > 100
    assert (matrix == 0).any() and (matrix == 1).any()


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K files are not here")
def test_matrix_equals_rouge_score_on_gsm8k_solutions(reference_f1: Callable[[str, str], float]) -> None:
    with (GSM8K / "test.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["answer"] for line in itertools.islice(file, 0, 600, 15)]
    matrix = rouge_l_f1_matrix(texts)
    for first, second in itertools.combinations(range(len(texts)), 2):
        assert matrix[first, second] == matrix[second, first] == reference_f1(texts[first], texts[second])


def test_another_denominator_would_be_noticed(
    reference_f1: Callable[[str, str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rouge, "rouge_tokens", lambda text: text.encode().split())
    with pytest.raises(AssertionError):
        test_matrix_equals_rouge_score_on_random_pairs(reference_f1)


def test_greedy_equals_the_written_loop(reference_f1: Callable[[str, str], float]) -> None:
    generator = random.Random(1)
    counts = []
    for _ in range(60):
        texts = random_solutions(generator, 8, length=6)
        correct = [generator.random() < 0.7 for _ in texts]
        for threshold in THRESHOLDS:
            counts.append(distinct_correct(texts, correct, threshold))
            assert counts[-1] == greedy_by_rouge_score(texts, correct, threshold, reference_f1)
    assert len(set(counts)) > 5


def test_greedy_by_hand() -> None:
    texts = ["a b c d", "a b c e", "x y z", "a b c d"]
    assert distinct_correct(texts, [True] * 4, 0.7) == 2
    assert distinct_correct(texts, [True] * 4, 0.75) == 2
    assert distinct_correct(texts, [True] * 4, 0.76) == 3
    assert distinct_correct(texts, [True] * 4, 1.0) == 3
    assert distinct_correct(texts, [True, False, False, False], 0.7) == 1
    assert distinct_correct(texts, [False] * 4, 0.7) == 0
    assert distinct_correct([], [], 0.7) == 0


def test_order_matters_to_greedy_and_not_to_the_others() -> None:
    path = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)
    middle_first = path[np.ix_([1, 0, 2], [1, 0, 2])]
    assert (distinct_in_order(path), distinct_in_order(middle_first)) == (2, 1)
    assert expected_distinct(path) == expected_distinct(middle_first) == pytest.approx(5 / 3)
    assert len(components(path)) == len(components(middle_first)) == 1


@pytest.mark.parametrize("size", [1, 2, 4, 6, 7])
def test_expectation_is_the_mean_over_all_orders(size: int) -> None:
    generator = random.Random(size)
    for density in (0.0, 0.2, 0.5, 1.0):
        similar = random_graph(generator, size, density)
        orders = list(itertools.permutations(range(size)))
        counts = [distinct_in_order(similar[np.ix_(order, order)]) for order in orders]
        assert expected_distinct(similar) == pytest.approx(np.mean(counts), abs=1e-12)
        assert len(components(similar)) <= min(counts)


def test_random_orders_agree_with_the_exact_expectation(monkeypatch: pytest.MonkeyPatch) -> None:
    similar = random_graph(random.Random(3), 12, 0.25)
    exact = expected_distinct(similar)
    monkeypatch.setattr(counting, "MAX_EXACT", 1)
    sampled = expected_distinct(similar, num_orders=40_000, seed=1)
    assert sampled == pytest.approx(exact, abs=0.02)
    assert sampled == expected_distinct(similar, num_orders=40_000, seed=1) != exact
    assert sampled != expected_distinct(similar, num_orders=40_000, seed=2)


def test_twelve_linked_samples_are_exact_and_thirteen_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("sampled")

    monkeypatch.setattr(counting, "_mean_over_random_orders", refuse)
    star = np.eye(13, dtype=bool)
    star[0] = star[:, 0] = True
    # The centre comes first with probability 1/12; otherwise the 11 leaves are kept.
    assert expected_distinct(star[:12, :12]) == pytest.approx(1 / 12 + 11 * 11 / 12)
    with pytest.raises(AssertionError, match="sampled"):
        expected_distinct(star)


def test_components_agree_with_scipy() -> None:
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    generator = random.Random(5)
    for density in (0.02, 0.1, 0.3):
        similar = random_graph(generator, 20, density)
        assert len(components(similar)) == csgraph.connected_components(similar, directed=False)[0]


def test_rules_are_ordered_and_bounded() -> None:
    generator = random.Random(6)
    for _ in range(40):
        texts = random_solutions(generator, 8, length=8)
        correct = [generator.random() < 0.8 for _ in texts]
        for threshold in THRESHOLDS:
            fewest = distinct_correct_components(texts, correct, threshold)
            mean = distinct_correct_expected(texts, correct, threshold)
            assert fewest <= distinct_correct(texts, correct, threshold) <= sum(correct)
            assert fewest - 1e-9 <= mean <= sum(correct) + 1e-9


@pytest.mark.parametrize("count", [distinct_correct, distinct_correct_expected, distinct_correct_components])
def test_wrong_arguments_are_named(count: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="correct: 1 verdicts for 2 completions"):
        count(["a", "b"], [True], 0.7)
    for threshold in (0.0, 1.5, 70.0):
        with pytest.raises(ValueError, match="threshold"):
            count(["a"], [True], threshold)
