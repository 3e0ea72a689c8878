"""Simulated solvers err at their stated rates; the score of their imitator is the one that theory gives."""

from __future__ import annotations

import re
from collections import Counter
from statistics import fmean
from typing import Any

import pytest

from datamodules.experts.arithmetic import ExpertArithmetic
from datamodules.experts.solvers import MISTAKES, Solver, make_solvers, mixture, written
from lightning_gfn.metrics.functional.mixtures import tempered_by_letter
from lightning_gfn.types import Problem

FEW = [0.2, 0.3, 0.4]
MANY = [0.2] * 3 + [0.3] * 4 + [0.4] * 3


@pytest.mark.parametrize("solver", [*make_solvers(FEW, "diverse"), *make_solvers(MANY, "shared", slip_rate=0.15)])
def test_error_rates_are_the_stated_ones(solver: Solver) -> None:
    wrong = [1.0 - solver.distribution(a, b).get(written(a + b), 0.0) for a in range(10, 100) for b in range(1, 100)]
    assert fmean(wrong) == pytest.approx(solver.error_rate)
    assert all(sum(solver.distribution(a, 7).values()) == pytest.approx(1.0) for a in range(10, 100))


def test_mistakes_differ_and_no_answer_is_negative() -> None:
    assert len(set(MISTAKES)) == len(MISTAKES) == 10 and 0 not in MISTAKES and min(MISTAKES) + 11 >= 0


def test_diverse_solvers_share_as_few_errors_as_possible() -> None:
    for rates in (FEW, MANY, [0.3] * 10):
        blind = Counter(digit for solver in make_solvers(rates, "diverse") for digit in solver.blind)
        counts = [blind[digit] for digit in range(10)]
        assert sum(counts) == round(10 * sum(rates)) and max(counts) - min(counts) <= 1
    shared = make_solvers(FEW, "shared")
    assert shared[0].blind < shared[1].blind < shared[2].blind and len({solver.mistake for solver in shared}) == 1


def majority(problem: Problem, solvers: list[Solver]) -> float:
    """Whether most solvers give the right answer, ties in part, by counting votes."""
    a, b = map(int, re.findall(r"\d+", problem.prompt))
    votes = Counter(next(iter(solver.distribution(a, b))) for solver in solvers)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    return (problem.answer in winners) / len(winners)


@pytest.mark.parametrize(
    ("rates", "errors", "expected"),
    [
        (FEW, "diverse", 1.0),
        (MANY, "diverse", 1.0),
        (FEW, "shared", 0.7),
        (MANY, "shared", 0.7),
        ([0.2], "diverse", 0.8),
    ],
)
def test_the_coldest_imitator_scores_like_a_majority_vote(rates: list[float], errors: Any, expected: float) -> None:
    data = ExpertArithmetic(blind_rates=rates, errors=errors)
    problems = data.problems("test")
    votes = fmean(majority(problem, data.solvers) for problem in problems)
    cold = [tempered_by_letter(p.metadata["experts"]["mixture"], 0.001).get(str(p.answer), 0.0) for p in problems]
    assert votes == pytest.approx(expected) and fmean(cold) == pytest.approx(expected, abs=1e-9)
    assert fmean(p.metadata["experts"]["best"] for p in problems) == pytest.approx(0.8)
    assert fmean(p.metadata["experts"]["mean"] for p in problems) == pytest.approx(1.0 - fmean(rates))


def test_one_who_slips_at_random_is_surpassed_and_one_with_a_bias_is_not() -> None:
    def coldest(**settings: Any) -> float:
        problems = ExpertArithmetic(**settings).problems("test")
        shares = [tempered_by_letter(p.metadata["experts"]["mixture"], 0.001) for p in problems]
        return fmean(q.get(str(p.answer), 0.0) for p, q in zip(problems, shares, strict=True))

    assert coldest(blind_rates=[0.0], slip_rate=0.3) == pytest.approx(1.0)
    assert coldest(blind_rates=[0.3]) == pytest.approx(0.7)


def test_training_answers_are_drawn_from_the_mixture() -> None:
    data = ExpertArithmetic(blind_rates=FEW, draws=64)
    problems = data.problems("train")
    right = fmean(solution == problem.answer for problem in problems for solution in problem.solutions)
    assert right == pytest.approx(0.7, abs=0.01)
    some = problems[0]
    counts = Counter(solution for p in problems if p.prompt == some.prompt for solution in p.solutions)
    assert set(counts) <= set(some.metadata["experts"]["mixture"])
    again = ExpertArithmetic(blind_rates=FEW, draws=64).problems("train")
    other = ExpertArithmetic(blind_rates=FEW, draws=64, draw_seed=1).problems("train")
    assert [p.solutions for p in again] == [p.solutions for p in problems] != [p.solutions for p in other]


def test_settings_share_test_problems_which_no_training_set_holds() -> None:
    one, two = (ExpertArithmetic(blind_rates=[0.2, 0.3], errors=errors) for errors in ("diverse", "shared"))
    ids = [problem.id for problem in one.problems("test")]
    assert ids == [problem.id for problem in two.problems("test")] and len(ids) == 250
    assert not set(ids) & {problem.id for problem in one.problems("train")}
    assert Counter(problem.prompt[1] for problem in one.problems("test")) == dict.fromkeys("0123456789", 25)


def test_the_mixture_is_the_mean() -> None:
    found = mixture([{"1": 1.0}, {"1": 0.5, "2": 0.5}])
    assert found == pytest.approx({"1": 0.75, "2": 0.25})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"blind_rates": [0.25]}, "expected tenths"),
        ({"blind_rates": [1.0]}, "expected tenths"),
        ({"blind_rates": []}, "at least one"),
        ({"blind_rates": [0.2], "errors": "alike"}, "diverse or shared"),
        ({"blind_rates": [0.2], "slip_rate": 1.0}, "slip_rate is 1.0"),
        ({"blind_rates": [0.2], "draws": 0}, "draws=0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ExpertArithmetic(**settings)


def test_too_many_problems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.num_test is 9000"):
        ExpertArithmetic(blind_rates=[0.2], num_test=9000).problems("test")
