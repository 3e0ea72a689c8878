"""Step labels: exact ones on known solution sets, arithmetic, and shares of completions against probabilities."""

from __future__ import annotations

import math
from typing import Any

import pytest

from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.rollouts.step_labels import Completions, ExactArithmetic, ExactSolutions, SteppedSolution, attempt_of
from lightning_gfn.types import Problem

SOLUTIONS = {"3 + 4 = 7.\nThe answer is: 7": "sum", "4 + 3 = 7.\nSo 7.\nThe answer is: 7": "turned"}
PROBLEM = Problem(id="p", prompt="3 + 4?\n", answer="7", solution_set=SOLUTIONS)
CASES = [
    ("3 + 4 = 7.\nThe answer is: 7", [1, 1], [1, 1]),
    ("4 + 3 = 7.\nSo 7.\nThe answer is: 7", [1, 1, 1], [1, 1, 1]),
    ("3 + 4 = 7.\nThe answer is: 8", [1, 0], [1, 0]),
    ("3 + 4 = 8.\nThe answer is: 8", [0, 0], [0, 0]),
    ("4 + 3 = 7.\nThe answer is: 7", [1, 0], [1, 1]),
    ("3 + 4 = 7.\n", [0], [0]),
    ("x - 4 = 3.\nThe answer is: 7", [0, 0], [1, 1]),
    ("x - 4 = 4.\nThe answer is: 7", [0, 0], [0, 0]),
    ("21 / 9 = 2.33.\nThe answer is: 7", [0, 0], [1, 1]),
    ("21 / 9 = 2.34.\nThe answer is: 7", [0, 0], [0, 0]),
    ("Take y = 3 * 4 = 12 and 50% * 14 = 7.\nThe answer is: 7", [0, 0], [1, 1]),
    ("It is obvious.\nThe answer is: 7", [0, 0], [1, 1]),
    ("3 + 4 = 8.\n3 + 4 = 7.\nThe answer is: 7", [0, 0, 0], [0, 0, 0]),
]


def attempts(*texts: str, problem: Problem = PROBLEM) -> list[SteppedSolution]:
    found = [attempt_of(problem, f"1/{n}", text, "\n") for n, text in enumerate(texts)]
    assert all(found)
    return [attempt for attempt in found if attempt is not None]


@pytest.mark.parametrize(("text", "solutions", "arithmetic"), CASES)
def test_exact_labels(text: str, solutions: list[int], arithmetic: list[int]) -> None:
    policy: Any = None
    assert ExactSolutions()(attempts(text), policy).shares == [solutions]
    assert ExactArithmetic()(attempts(text), policy).shares == [arithmetic]


def test_every_known_solution_is_good_everywhere() -> None:
    """On the synthetic problems both notions call every solution good, and a changed answer or sum bad."""
    policy: Any = None
    problems = SyntheticWordProblems(levels={2: 1.0}, num_train=5, num_val=1, num_test=1).problems("train")
    checked = 0
    for problem in problems:
        assert problem.solution_set is not None
        own = attempts(*problem.solution_set, problem=problem)
        assert ExactSolutions()(own, policy).shares == ExactArithmetic()(own, policy).shares == [[1.0, 1.0]] * len(own)
        wrong = attempts(*(text + "0" for text in problem.solution_set), problem=problem)
        assert (
            ExactSolutions()(wrong, policy).shares == ExactArithmetic()(wrong, policy).shares == [[1.0, 0.0]] * len(own)
        )
        checked += len(own)
    assert checked >= 40


def test_a_problem_without_a_solution_set_is_named() -> None:
    policy: Any = None
    other = Problem(id="q/1", prompt="?", answer="7")
    with pytest.raises(ValueError, match="'q/1' has no known solution set"):
        ExactSolutions()(attempts("The answer is: 7", problem=other), policy)


def test_nothing_visible_is_no_attempt() -> None:
    assert attempt_of(PROBLEM, "k", " \n", "\n") is None


@pytest.fixture
def completing(make_policy: Any) -> Any:
    """After a blank the policy writes 7 with probability 3/4 and 8 otherwise, then it stops."""
    policy = make_policy(max_new_tokens=12)
    policy.table[:] = -60.0

    def allow(before: str, after: str | None, probability: float = 1.0) -> None:
        policy.table[ord(before) - 10, ord(after) - 10 if after is not None else -1] = math.log(probability)

    allow(" ", "7", 0.75)
    allow(" ", "8", 0.25)
    allow("7", None)
    allow("8", None)
    return policy


def answer_attempts(*texts: str) -> list[SteppedSolution]:
    """Attempts in two steps: all up to the answer mark, and the answer."""
    problem = Problem(id="p", prompt="? ", answer="7", answer_style="gsm8k")
    found = [attempt_of(problem, f"1/{n}", text, "#### ") for n, text in enumerate(texts)]
    assert all(attempt is not None and len(attempt.steps) == 2 for attempt in found)
    return [attempt for attempt in found if attempt is not None]


def test_shares_of_completions(completing: Any) -> None:
    """The share is near the policy's own probability; random numbers are keyed by attempt and step alone."""
    rows = answer_attempts("a#### 7", "bb#### 8", "cc#### 7")
    labeller = Completions(num_completions=100, max_rows=300)
    labels = labeller(rows, completing)
    shares = labels.shares
    assert labels.generated_tokens == labels.reward_calls - len(rows) == 3 * 100, "one token a completion"
    assert [share[-1] for share in shares] == [1.0, 0.0, 1.0], "the last step has the verdict of the attempt itself"
    for share in shares:
        assert abs(share[0] - 0.75) < 4 * (0.75 * 0.25 / 100) ** 0.5
    assert len({share[0] for share in shares}) > 1
    assert shares == Completions(num_completions=100, max_rows=77)(rows, completing).shares, (
        "independent of the batches"
    )
    assert shares[1:2] == labeller(rows[1:2], completing).shares, "and of the other attempts"
    assert shares != Completions(num_completions=100, seed=1)(rows, completing).shares
    assert completing.max_new_tokens == 12


def test_completions_keep_to_the_length_that_is_left(completing: Any) -> None:
    """A beginning of 11 of 12 tokens leaves one, 12 leave none: then the beginning itself is judged."""
    rows = answer_attempts("a" * 6 + "#### 7", "a" * 7 + "#### 7")
    shares = Completions(num_completions=50)(rows, completing).shares
    assert 0.5 < shares[0][0] < 1.0 and shares[1] == [0.0, 1.0]
    lengths = [call["uniforms"].shape[1] for call in completing.sample_calls]
    assert lengths == [2]


def test_completions_at_another_temperature(completing: Any) -> None:
    """At temperature 1/2 the odds of 3 become 9."""
    share = Completions(num_completions=400, temperature=0.5)(answer_attempts("a#### 7"), completing).shares[0][0]
    assert abs(share - 0.9) < 4 * (0.9 * 0.1 / 400) ** 0.5


@pytest.mark.parametrize("name", ["num_completions", "temperature", "max_rows"])
def test_bad_settings_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be above 0"):
        Completions(**{name: 0})
