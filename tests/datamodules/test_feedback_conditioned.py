"""Twins of training problems whose prompts hold feedback."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from datamodules.feedback_conditioned import FeedbackConditioned, spoil
from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.answers import extract_answer
from lightning_gfn.answers.equations import first_wrong_equation

TEMPLATE = "Hint: {feedback}\n{prompt}"


def make(**settings: Any) -> FeedbackConditioned:
    inner = SyntheticWordProblems(levels={1: 1.0}, num_train=200, num_val=8, num_test=8)
    return FeedbackConditioned(inner, **{"template": TEMPLATE, **settings})


def test_twins_stand_beside_the_problems_they_belong_to() -> None:
    data = make(share=0.5)
    problems = {problem.id: problem for problem in data.problems("train")}
    twins = {id_: p for id_, p in problems.items() if id_.endswith("/feedback")}
    assert len(problems) - len(twins) == 200 and 70 < len(twins) < 130
    for id_, twin in twins.items():
        original = problems[id_.removesuffix("/feedback")]
        assert twin.prompt.startswith("Hint: ") and twin.prompt.endswith(f"\n{original.prompt}")
        assert len(twin.solutions) == 1 and twin.solutions[0] in original.solutions
        assert twin.answer == original.answer
    assert [p.id for p in data.problems("val")] == [p.id for p in data.data.problems("val")]
    assert not any("Hint" in p.prompt for p in data.problems("test"))
    assert sum("Hint" in text for text in data.training_texts()) == len(twins)


def test_strength_and_kind_decide_what_is_said() -> None:
    def prompts(**settings: Any) -> list[str]:
        return [p.prompt for p in make(share=1.0, **settings).problems("train") if p.id.endswith("/feedback")]

    assert all("The answer is" in prompt for prompt in prompts(strengths=(0.75,)))
    assert not any("The answer is" in prompt for prompt in prompts(strengths=(0.5,)))
    located = prompts(strengths=(0.25,), right_share=0.0)
    assert 0.2 < sum("is false" in prompt for prompt in located) / len(located) < 0.8, "some styles have no equations"
    assert all("A right solution: " in prompt for prompt in prompts(kinds=("solution",)))
    assert prompts() == prompts() != prompts(feedback_seed=1)


@pytest.mark.parametrize(("right_share", "low", "high"), [(0.0, 0.0, 0.1), (0.5, 0.4, 0.6), (1.0, 1.0, 1.0)])
def test_a_share_of_the_verdicts_judges_a_right_solution(right_share: float, low: float, high: float) -> None:
    """The teacher reads "The attempt is right." about every right attempt: it must have seen it before."""
    data = make(share=1.0, strengths=(0.75,), right_share=right_share)
    prompts = [p.prompt for p in data.problems("train") if p.id.endswith("/feedback")]
    right = ["The attempt is right." in prompt for prompt in prompts]
    assert low <= sum(right) / len(right) <= high
    assert all(("The attempt is wrong." in prompt) != said for prompt, said in zip(prompts, right, strict=True))
    assert not any("is false" in prompt for prompt, said in zip(prompts, right, strict=True) if said)


def test_a_spoiled_solution_is_wrong() -> None:
    random = Random(0)
    noticed = changed = 0
    problems = SyntheticWordProblems(levels={1: 1.0}, num_train=50).problems("train")
    for problem in problems:
        for solution in problem.solutions:
            attempt = spoil(solution, random)
            changed += attempt != solution
            noticed += first_wrong_equation(attempt) is not None
            assert extract_answer(attempt, "metamath") is not None
    total = sum(len(problem.solutions) for problem in problems)
    assert changed > 0.9 * total and noticed > 0.25 * total
    assert spoil("no result", random) == "no result"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0.0}, r"data\.share is 0"),
        ({"right_share": -0.1}, r"data\.right_share is -0.1"),
        ({"strengths": ()}, r"data\.strengths is \(\)"),
        ({"strengths": (1.5,)}, "strength is 1.5"),
        ({"kinds": ("essay",)}, "data.kinds"),
        ({"template": "{prompt}"}, "{feedback} exactly once"),
    ],
)
def test_a_wrong_setting_names_itself(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
