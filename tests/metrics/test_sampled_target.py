"""Exactness on samples against scipy, plain loops and enumeration; likelihoods and diversity of all samples."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from scipy import special, stats

from lightning_gfn.metrics.accuracy import MajorityAtK, PassAtK, SolveRate
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.completions import CompletionStatistics
from lightning_gfn.metrics.diversity import DistinctCorrect, DistinctNgrams, SelfBleu
from lightning_gfn.metrics.functional.bleu import bleu_tokens, distinct_ngrams, self_bleu
from lightning_gfn.metrics.functional.target import sample_fit
from lightning_gfn.metrics.target import LogLikelihood, SampledTarget
from lightning_gfn.types import EvalRecord, Problem

TEXTS = ("the cat sat on the mat", "the cat sat on a hat", "", "Dogs bark. Dogs bark.")


def record(**changes: Any) -> EvalRecord:
    count = len(TEXTS)
    plain = EvalRecord(
        problem=Problem("p", "?"),
        temperature=1.0,
        completions=TEXTS,
        correct=(False,) * count,
        log_probs=(-3.0, -5.0, -9.0, -4.0),
        lengths=(1,) * count,
        entropies=(0.0,) * count,
        truncated=(False,) * count,
        log_rewards=(-2.0, -6.5, -8.0, -4.5),
        log_likelihoods=(-4.0, -13.0, -16.0, -9.0),
    )
    return replace(plain, **changes)


def value(metric: PerProblemMetric, taken: EvalRecord) -> dict[str, float]:
    metric.update(taken)
    return metric.per_problem()[taken.problem.id]


@pytest.mark.parametrize("seed", range(3))
def test_every_number_is_that_of_scipy_and_a_plain_loop(seed: int) -> None:
    numbers = random.Random(seed)
    w = [numbers.gauss(-20.0, 4.0) for _ in range(8)]
    log_q = [0.7 * x + numbers.gauss(-3.0, 1.0) for x in w]
    fit = sample_fit(w, log_q)
    ratio = [a - b for a, b in zip(w, log_q, strict=True)]
    assert fit.elbo == pytest.approx(sum(ratio) / 8)
    assert fit.log_z == pytest.approx(special.logsumexp(ratio) - math.log(8))
    weights = [math.exp(x) for x in ratio]
    assert fit.effective == pytest.approx(sum(weights) ** 2 / sum(x * x for x in weights) / 8)
    assert fit.slope == pytest.approx(stats.linregress(w, log_q).slope)
    assert fit.spread == pytest.approx(stats.tstd(ratio) * math.sqrt(7 / 8))
    assert fit.elbo <= fit.log_z and 1 / 8 <= fit.effective <= 1.0


def test_a_policy_in_proportion_to_the_reward_is_exact_and_a_tempered_one_has_its_temperature_as_slope() -> None:
    w = [-3.0, -1.0, -8.0, -2.5]
    fit = sample_fit(w, [x - 1.75 for x in w])
    assert (fit.slope, fit.effective) == (pytest.approx(1.0), pytest.approx(1.0))
    assert fit.spread == pytest.approx(0.0, abs=1e-12) and fit.elbo == pytest.approx(fit.log_z) == pytest.approx(1.75)
    assert sample_fit(w, [0.8 * x for x in w]).slope == pytest.approx(0.8)
    assert math.isnan(sample_fit([-1.0, -1.0], [-2.0, -3.0]).slope)


def test_the_estimate_of_z_is_unbiased_and_the_elbo_below_log_z() -> None:
    """Over all pairs of samples of a policy over three completions, by enumeration."""
    w, q = [0.3, -1.0, 1.2], [0.5, 0.2, 0.3]
    z = sum(map(math.exp, w))
    mean = elbo = 0.0
    for i, first in enumerate(q):
        for j, second in enumerate(q):
            fit = sample_fit([w[i], w[j]], [math.log(first), math.log(second)])
            mean += first * second * math.exp(fit.log_z)
            elbo += first * second * fit.elbo
    kl = sum(p * (math.log(p) - x + math.log(z)) for p, x in zip(q, w, strict=True))
    assert mean == pytest.approx(z) and elbo == pytest.approx(math.log(z) - kl)


def test_impossible_samples_are_refused() -> None:
    for w, log_q, said in (([0.0], [0.0, 1.0], "one length"), ([], [], "one length"), ([-math.inf], [0.0], "finite")):
        with pytest.raises(ValueError, match=said):
            sample_fit(w, log_q)


def test_estimates_need_samples_of_the_policy_itself() -> None:
    whole = value(SampledTarget(), record())
    assert set(whole) == {"sample_slope", "sample_spread", "sample_elbo", "sample_log_z", "sample_effective"}
    assert whole["sample_elbo"] == pytest.approx((1.0 - 1.5 + 1.0 - 0.5) / 4)
    for changed in ({"temperature": 0.7}, {"is_drawn": False}):
        assert set(value(SampledTarget(), record(**changed))) == {"sample_slope"}
    assert value(SampledTarget(), record(log_rewards=())) == {}


def test_likelihoods_are_the_mean_and_the_best() -> None:
    assert value(LogLikelihood(), record()) == {"log_likelihood": -10.5, "log_likelihood_max": -4.0}
    assert value(LogLikelihood(), record(log_likelihoods=())) == {}


def test_without_a_verdict_there_is_no_solve_rate() -> None:
    unjudged = record()
    assert not unjudged.is_judged
    for metric in (SolveRate(), PassAtK((1,)), MajorityAtK((1,)), DistinctCorrect()):
        assert value(metric, unjudged) == {}
    assert "answered_share" not in value(CompletionStatistics(), unjudged)
    answered = replace(unjudged, problem=Problem("p", "?", answer="4"))
    assert answered.is_judged and value(SolveRate(), answered) == {"solve_rate": 0.0}
    assert value(SolveRate(), record(log_rewards=())) == {"solve_rate": 0.0}


@pytest.mark.parametrize("order", [1, 2, 3])
def test_distinct_n_is_that_of_a_plain_loop_and_of_nltk(order: int) -> None:
    util = pytest.importorskip("nltk.util")
    every = [gram for text in TEXTS for gram in util.ngrams(bleu_tokens(text), order)]
    assert distinct_ngrams(TEXTS, order) == pytest.approx(len(set(every)) / len(every))
    assert value(DistinctNgrams((order,)), record()) == {f"sample_distinct_{order}": distinct_ngrams(TEXTS, order)}
    if order == 2:
        words = [bleu_tokens(text) for text in TEXTS]
        assert every == [pair for text in words for pair in pairwise(text)]


def test_diversity_of_all_samples_ignores_verdicts() -> None:
    assert value(SelfBleu(samples="all"), record()) == {"sample_self_bleu": pytest.approx(self_bleu(TEXTS).mean())}
    assert value(SelfBleu(), record()) == {}
    assert distinct_ngrams(["a a a a"], 1) == 0.25 and math.isnan(distinct_ngrams(["a"], 2))
    with pytest.raises(ValueError, match="unknown choice 'some'"):
        SelfBleu(samples="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="orders"):
        DistinctNgrams((0,))
