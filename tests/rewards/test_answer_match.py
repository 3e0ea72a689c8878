from __future__ import annotations

import random

import pytest
import torch

from lightning_gfn.answers import extract_answer, is_equivalent
from lightning_gfn.rewards import answer_match
from lightning_gfn.rewards.answer_match import AnswerMatch, prefix_verdicts
from lightning_gfn.types import Problem

PIECES = [
    "2+2=4\n",
    "The answer is: ",
    "#### ",
    "\\boxed{",
    "}",
    "4",
    "42",
    "1,200",
    ".",
    "\n",
    " ",
    "\\fbox{",
    "x",
    "\\boxed{42}",
    "\\boxed 4",
]
TRUTH = AnswerMatch().judge


def written_loop(text: str, problem: Problem) -> list[float]:
    prefixes = [text[:end] for end in range(len(text) + 1)]
    return [float(is_equivalent(extract_answer(prefix, problem.answer_style), problem.answer)) for prefix in prefixes]


@pytest.mark.parametrize("style", ["gsm8k", "math", "metamath"])
def test_prefix_verdicts_equal_a_written_loop_on_random_texts(style, policy) -> None:
    generator = random.Random(style)
    seen = set()
    for _ in range(150):
        text = "".join(generator.choices(PIECES, k=generator.randrange(9)))
        problem = Problem("p", "Q", answer=generator.choice(["4", "42", "1200"]), answer_style=style)
        verdicts = prefix_verdicts(policy.encode_completion(text), problem, policy, TRUTH)
        assert verdicts == written_loop(text, problem), text
        seen.update(verdicts)
    assert seen == {0.0, 1.0}


def test_terms_hold_one_value_a_prefix_and_the_verdict_on_the_whole_text(policy, make_rollouts) -> None:
    problems = [Problem("a", "Q?", answer="4"), Problem("b", "R??", answer="42")]
    texts = ["The answer is: 42", "The answer is: 42", "no"]
    rollouts = make_rollouts(problems, texts, [0, 1, 1])
    terms, correct_B = AnswerMatch().terms(rollouts, policy, prefixes=True)
    assert correct_B is not None and correct_B.tolist() == [False, True, False]
    assert set(terms) == {"correct"} and terms["correct"].shape == (3, 18)
    assert terms["correct"][0].nonzero().flatten().tolist() == [16], (
        "'The answer is: 4' is right, one token later it is wrong"
    )
    assert terms["correct"][1].nonzero().flatten().tolist() == [17]
    assert terms["correct"][2].sum() == 0
    log_reward = AnswerMatch().combine(terms, rollouts, optimizer_step=0)
    assert torch.equal(log_reward.terminal_B, correct_B.float())
    assert log_reward.prefix_BT1 is terms["correct"]


def test_terminal_terms_alone_are_the_reward_of_a_reward_maximiser(policy, make_rollouts) -> None:
    rollouts = make_rollouts(
        [Problem("a", "Q?", answer="1/2", answer_style="math")], ["so \\boxed{0.5}", "\\boxed{5}"], [0, 0]
    )
    terms, correct_B = AnswerMatch().terms(rollouts, policy, prefixes=False)
    log_reward = AnswerMatch().combine(terms, rollouts, optimizer_step=3)
    assert log_reward.terminal_B.tolist() == [1.0, 0.0] and log_reward.prefix_BT1 is None
    assert correct_B is not None and correct_B.tolist() == [True, False]
    assert policy.decode_calls == 0


def test_a_verdict_is_asked_once_while_the_answer_stays_and_few_prefixes_are_decoded(policy, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(answer_match, "are_equivalent", lambda pairs: asked.extend(pairs) or [True] * len(pairs))
    text = "1+1=2. " * 20 + "The answer is: 2\nand so on and on"
    verdicts = prefix_verdicts(policy.encode_completion(text), Problem("p", "Q", answer="2"), policy, TRUTH)
    assert asked == [("2", "2")]
    assert sum(verdicts) == len("2\nand so on and on")
    assert policy.decode_calls < 45, "bisection to the marker, then one call a prefix"


def test_the_loop_catches_planted_errors(policy) -> None:
    problem = Problem("p", "Q", answer="4")
    text = "The answer is: 42\nThe answer is: 4"
    expected = written_loop(text, problem)
    off_by_one = prefix_verdicts(policy.encode_completion(text), problem, policy, TRUTH)[1:]
    only_final = [expected[-1]] * len(expected)
    assert off_by_one != expected[:-1] and only_final != expected


def test_a_problem_without_reference_answer_is_named(policy, make_rollouts) -> None:
    rollouts = make_rollouts([Problem("row-7", "Q?")], ["The answer is: 4"])
    with pytest.raises(ValueError, match=r"'row-7' has no reference answer"):
        AnswerMatch().terms(rollouts, policy, prefixes=False)


def test_prefix_values_of_several_steps_are_refused(policy, make_rollouts) -> None:
    rollouts = make_rollouts([Problem("a", "Q?", answer="4")], ["x", "y"], [0, 0])
    rollouts.completions = ("xy",)
    rollouts.problem_index_B = torch.tensor([0])
    with pytest.raises(ValueError, match="one step a trajectory, got 2 steps of 1"):
        AnswerMatch().terms(rollouts, policy, prefixes=True)
