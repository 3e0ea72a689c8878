"""Distances from a target against plain loops, scipy, sampling and the inequalities that they must obey."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_gfn.metrics.functional.target import log_z_estimate, target_fit
from lightning_gfn.metrics.target import TargetDistance
from lightning_gfn.types import EvalRecord, Problem


def drawn(seed: int, rest: float) -> tuple[list[float], list[float]]:
    numbers = random.Random(seed)
    weights = [numbers.gauss(0.0, 2.0) - 3.0 for _ in range(9)]
    shares = [numbers.random() for _ in weights]
    return weights, [math.log((1.0 - rest) * share / sum(shares)) for share in shares]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rest", [0.0, 0.3])
def test_every_number_is_that_of_a_plain_loop(seed: int, rest: float) -> None:
    weights, log_q = drawn(seed, rest)
    fit = target_fit(weights, log_q)
    z = sum(math.exp(w) for w in weights)
    p, q = [math.exp(w) / z for w in weights], [math.exp(x) for x in log_q]
    valid = [x / sum(q) for x in q]
    assert fit.mass == pytest.approx(1.0 - rest)
    assert fit.total_variation == pytest.approx(0.5 * (sum(abs(a - b) for a, b in zip(p, q, strict=True)) + rest))
    assert fit.total_variation_valid == pytest.approx(0.5 * sum(abs(a - b) for a, b in zip(p, valid, strict=True)))
    assert fit.kl_valid == pytest.approx(stats.entropy(valid, p))
    assert fit.kl_forward == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert fit.log_z == pytest.approx(math.log(z))
    assert fit.elbo == pytest.approx(sum(b * (w - math.log(b)) for w, b in zip(weights, valid, strict=True)))
    assert fit.eubo == pytest.approx(sum(a * (w - math.log(b)) for w, a, b in zip(weights, p, q, strict=True)))
    assert fit.elbo <= fit.log_z <= fit.eubo
    slope, _ = np.polyfit(weights, log_q, 1, w=np.sqrt(p))
    assert fit.slope == pytest.approx(slope)
    difference = np.array(log_q) - np.array(weights)
    mean = float((np.array(p) * difference).sum())
    assert fit.spread == pytest.approx(math.sqrt(float((np.array(p) * (difference - mean) ** 2).sum())))


def test_the_target_itself_is_at_no_distance() -> None:
    weights, _ = drawn(1, 0.0)
    log_z = math.log(sum(math.exp(w) for w in weights))
    fit = target_fit(weights, [w - log_z for w in weights])
    for value in (fit.total_variation, fit.total_variation_valid, fit.kl_valid, fit.kl_forward, fit.spread):
        assert value == pytest.approx(0.0, abs=1e-7)
    assert fit.slope == pytest.approx(1.0) and fit.mass == 1.0


def test_a_policy_that_misses_completions_is_infinitely_far_in_one_direction() -> None:
    fit = target_fit([0.0, 0.0], [math.log(0.5), -math.inf])
    assert fit.kl_forward == math.inf and fit.kl_valid == pytest.approx(math.log(2.0))
    assert target_fit([0.0, 0.0], [-math.inf, -math.inf]).total_variation == 1.0


def test_the_estimate_of_log_z_is_unbiased_in_z() -> None:
    weights, log_q = drawn(2, 0.2)
    z = sum(math.exp(w) for w in weights)
    expected = 0.0
    shares = [math.exp(x) for x in log_q] + [0.2]
    for i, share in enumerate(shares):  # all pairs of samples, by enumeration
        for j, other in enumerate(shares):
            pair = [(weights[k], log_q[k]) if k < len(weights) else (-math.inf, math.log(0.2)) for k in (i, j)]
            expected += share * other * math.exp(log_z_estimate(*zip(*pair, strict=True)))
    assert expected == pytest.approx(z)


def test_impossible_arguments_are_refused() -> None:
    for weights, log_q, said in (
        ([0.0], [0.0, 0.0], "one length"),
        ([math.inf], [0.0], "finite"),
        ([0.0], [0.1], "up"),
    ):
        with pytest.raises(ValueError, match=said):
            target_fit(weights, log_q)


def record(target: dict[str, float] | None, log_probs: tuple[float, ...], temperature: float = 1.0) -> EvalRecord:
    return EvalRecord(
        problem=Problem(id="a", prompt="x", target=target), temperature=temperature, completions=("1", "7"),
        correct=(True, False), log_probs=(math.log(0.5), math.log(0.1)), lengths=(1, 1), entropies=(0.0, 0.0),
        truncated=(False, False), target_log_probs=log_probs,
    )  # fmt: skip


def test_the_metric_reports_them_where_there_is_a_target() -> None:
    metric = TargetDistance()
    metric.update(record({"1": 0.0, "2": 0.0}, (math.log(0.5), math.log(0.25))))
    values = {name: float(value) for name, value in metric.compute().items()}
    assert values["target_mass"] == pytest.approx(0.75) and values["total_variation"] == pytest.approx(0.25)
    assert values["log_z"] == pytest.approx(math.log(2.0))
    assert values["log_z_estimate"] == pytest.approx(math.log(0.5 * (1.0 / 0.5)))
    assert "log_q_slope" not in values, "a uniform target has no slope"
    other = TargetDistance()
    other.update(record(None, ()))
    assert other.compute() == {}
    tempered = TargetDistance()
    tempered.update(record({"1": 0.0, "2": 1.0}, (math.log(0.5), math.log(0.25)), temperature=0.5))
    assert "log_z_estimate" not in tempered.compute() and isinstance(tempered.compute()["log_z"], torch.Tensor)
