"""Keyed label noise: its rate, its persistence, and what it never touches."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lightning_gfn.answers.noise import flipped, noisy_verdict
from lightning_gfn.types import Problem

TEXTS = [f"{i}+{i}={2 * i}\nThe answer is: {2 * i}" for i in range(4000)]
PROBLEM = Problem("p", "Q", answer="4")


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.3, 0.9])
def test_the_share_of_flips_is_the_probability(probability: float) -> None:
    share = sum(flipped("p", text, probability=probability, seed=0) for text in TEXTS) / len(TEXTS)
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / len(TEXTS)) ** 0.5)


def test_the_ends_are_exact_and_flips_are_nested() -> None:
    for text in TEXTS[:200]:
        decisions = [flipped("p", text, probability=p, seed=3) for p in (0.0, 0.1, 0.2, 0.3, 1.0)]
        assert decisions == sorted(decisions) and decisions[0] is False and decisions[-1] is True


@pytest.mark.parametrize("change", ["seed", "problem", "text"])
def test_every_part_of_the_key_counts(change: str) -> None:
    changed = {"seed": (("p", ""), 1), "problem": (("q", ""), 0), "text": (("p", " "), 0)}[change]
    (problem, tail), seed = changed
    one = [flipped("p", text, probability=0.5, seed=0) for text in TEXTS]
    other = [flipped(problem, text + tail, probability=0.5, seed=seed) for text in TEXTS]
    assert sum(a != b for a, b in zip(one, other, strict=True)) / len(TEXTS) == pytest.approx(0.5, abs=0.05)


def test_the_border_between_problem_and_completion_counts() -> None:
    pairs = [(f"problem {i}", text) for i, text in enumerate(TEXTS)]
    one = [flipped(problem, text, probability=0.5, seed=0) for problem, text in pairs]
    moved = [flipped(problem + text[0], text[1:], probability=0.5, seed=0) for problem, text in pairs]
    assert one != moved


def test_another_process_decides_alike() -> None:
    code = (
        "from lightning_gfn.answers.noise import flipped\n"
        "print([flipped('p', f'text {i}', probability=0.3, seed=7) for i in range(50)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([flipped("p", f"text {i}", probability=0.3, seed=7) for i in range(50)])


@pytest.mark.parametrize("correct", [True, False])
def test_a_verdict_is_turned_over_where_an_answer_stands(correct: bool) -> None:
    for text in TEXTS[:300]:
        noisy = noisy_verdict(PROBLEM, text, correct=correct, probability=0.3, seed=1)
        assert noisy == (correct != flipped("p", text, probability=0.3, seed=1))
        assert noisy_verdict(PROBLEM, text, correct=correct, probability=0.0, seed=1) == correct


def test_a_text_without_an_answer_is_never_right() -> None:
    texts = [text.split("\n")[0] for text in TEXTS[:300]]
    assert any(flipped("p", text, probability=0.3, seed=1) for text in texts)
    assert not any(noisy_verdict(PROBLEM, text, correct=False, probability=0.3, seed=1) for text in texts)


@pytest.mark.parametrize("probability", [-0.1, 1.5, float("nan")])
def test_a_wrong_probability_is_named(probability: float) -> None:
    with pytest.raises(ValueError, match="^probability is "):
        flipped("p", "text", probability=probability, seed=0)
