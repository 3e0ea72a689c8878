"""Likelihood of reference solutions as a metric."""

from __future__ import annotations

import pytest

from lightning_gfn.metrics.references import ReferenceNll
from lightning_gfn.types import EvalRecord, Problem


def record(name: str, log_probs: tuple[float, ...], actions: tuple[int, ...]) -> EvalRecord:
    return EvalRecord(Problem(name, "?"), 1.0, ("x",), (False,), (0.0,), (1,), (0.0,), (False,), log_probs, actions)


def test_nats_per_action_over_all_actions_of_a_problem() -> None:
    metric = ReferenceNll()
    metric.update(record("a", (-10.0, -2.0), (5, 4)))
    metric.update(record("b", (-3.0,), (6,)))
    metric.update(record("c", (), ()))
    rows = metric.per_problem()
    assert rows["a"] == {"reference_nll": pytest.approx(12 / 9), "reference_nll_worst": pytest.approx(2.0)}
    assert rows["c"] == {}
    means = metric.compute()
    assert float(means["reference_nll"]) == pytest.approx((12 / 9 + 3 / 6) / 2)
    assert float(means["reference_nll_worst"]) == pytest.approx((2.0 + 0.5) / 2)


def test_without_scores_the_keys_are_absent() -> None:
    metric = ReferenceNll()
    metric.update(record("a", (), ()))
    assert metric.compute() == {}
