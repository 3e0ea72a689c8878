"""Predictions averaged over rationales against plain loops, and their calibration against its definition."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from lightning_gfn.answers.given import answers_of
from lightning_gfn.callbacks.common.problem_rows import measure_pooled, problem_digest
from lightning_gfn.metrics.accuracy import MajorityAtK, SolveRate
from lightning_gfn.metrics.functional.labels import label_distributions, model_average, swap_effect
from lightning_gfn.metrics.labels import LabelPrediction
from lightning_gfn.types import EvalRecord, Problem

NAMES = ("x", "y", "z")


def record(rows: list[list[float]], *, id_: str = "p", answer: str = "y", **changes: Any) -> EvalRecord:
    labels = {name: f" {name}" for name in NAMES}
    count = len(rows)
    settings: dict[str, Any] = {
        "completions": tuple(f"r{n % 2}" for n in range(count)),
        "correct": tuple(NAMES[row.index(max(row))] == answer for row in rows),
        "label_log_probs": tuple(map(tuple, rows)),
    }
    problem = Problem(id=id_, prompt="q", answer=answer, labels=labels, evidence=labels[answer])
    numbers = ((0.0,) * count, (1,) * count, (0.0,) * count, (False,) * count)
    given = {**settings, **changes}
    return EvalRecord(problem, 1.0, given["completions"], given["correct"], *numbers,
                      label_log_probs=given["label_log_probs"],
                      swapped_label_log_probs=given.get("swapped", ()))  # fmt: skip


def drawn(seed: int, count: int = 10) -> list[list[float]]:
    numbers = random.Random(seed)
    return [[numbers.gauss(-3.0, 2.0) for _ in NAMES] for _ in range(count)]


@pytest.mark.parametrize("seed", range(4))
def test_every_number_is_that_of_a_plain_loop(seed: int) -> None:
    rows, swapped = drawn(seed), drawn(seed + 100)
    given = record(rows, swapped=tuple(map(tuple, swapped)))
    average = [0.0, 0.0, 0.0]
    for row in rows:
        total = sum(map(math.exp, row))
        average = [a + math.exp(x) / total / len(rows) for a, x in zip(average, row, strict=True)]
    changed = shift = 0.0
    for row, other in zip(rows, swapped, strict=True):
        changed += (row.index(max(row)) != other.index(max(other))) / len(rows)
        one, two = (v[1] - math.log(sum(map(math.exp, v))) for v in (row, other))
        shift += abs(one - two) / len(rows)
    metric = LabelPrediction()
    found = dict(zip(metric.keys, metric.row(given), strict=True))
    expected = {
        "label_accuracy": float(average.index(max(average)) == 1),
        "label_log_prob": math.log(average[1]),
        "label_confidence": max(average),
        "label_brier": sum((a - (n == 1)) ** 2 for n, a in enumerate(average)),
        "distinct_rationales": 2.0,
        "rationale_effect": changed,
        "rationale_shift": shift,
    }
    assert found == pytest.approx(expected)


def test_the_majority_of_rationales_may_differ_from_their_average() -> None:
    sure, unsure = [0.0, -9.0, -20.0], [-0.8, -0.6, -20.0]
    given = record([sure, unsure, unsure])
    assert LabelPrediction().row(given)[0] == 0.0
    assert MajorityAtK((3,)).row(given) == [1.0] and SolveRate().row(given) == [pytest.approx(2 / 3)]
    assert answers_of(given) == ["x", "y", "y"]


def test_ties_are_shared_and_large_numbers_stay_finite() -> None:
    assert LabelPrediction().row(record([[-1.0, -1.0, -5.0]]))[0] == 0.5
    assert model_average([[-900.0, -901.0]]).tolist() == pytest.approx([-0.3132617, -1.3132617])
    with pytest.raises(ValueError, match="K rows of L"):
        label_distributions([])
    assert swap_effect([[0.0, -1.0]], [[0.0, -1.0]], 0) == [0.0, 0.0]


def test_other_problems_have_no_values() -> None:
    plain = EvalRecord(Problem(id="a", prompt="q", answer="1"), 1.0, ("1",), (True,), (0.0,), (1,), (0.0,), (False,))
    assert all(math.isnan(value) for value in LabelPrediction().row(plain))


def test_the_calibration_error_is_that_of_its_bins_over_all_problems() -> None:
    metric = LabelPrediction(num_bins=5)
    for n in range(200):
        metric.update(record(drawn(n, 3), id_=f"p{n:03}"))
    values = metric.per_problem()
    pairs = [(v["label_confidence"], v["label_accuracy"]) for v in values.values()]
    expected = 0.0
    for k in range(5):
        own = [pair for pair in pairs if k / 5 < pair[0] <= (k + 1) / 5]
        if own:
            expected += len(own) / 200 * abs(np.mean([hit for _, hit in own]) - np.mean([c for c, _ in own]))
    found = measure_pooled(metric, values, num_resamples=200, seed=0)["label_calibration_error"]
    assert found.value == pytest.approx(expected) and found.low < found.high
    assert measure_pooled(SolveRate(), values, num_resamples=10, seed=0) == {}


def test_a_classification_is_the_same_problem_however_it_is_asked() -> None:
    latent = Problem(id="a", prompt="q", answer="x", labels={"x": ", so x", "y": ", so y"}, evidence=", so x")
    bare = Problem(id="a", prompt="example\nq", answer="x", labels={"y": " y", "x": " x"})
    assert problem_digest(latent) == problem_digest(bare)
    other = Problem(id="a", prompt="q", answer="y", labels=bare.labels)
    assert problem_digest(other) != problem_digest(bare)
