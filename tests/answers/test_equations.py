"""False equations are found; right ones, unknowns and words are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.answers.equations import first_wrong_equation

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl"


@pytest.mark.parametrize(
    ("text", "equation", "right"),
    [
        ("3 bags hold 3 * 4 = 12. 12 + 5 = 18.", "12 + 5 = 18", "17"),
        ("x = 3 * 4 + 5 = 12 + 5 = 16.", "12 + 5 = 16", "17"),
        ("x = 3 * 4 + 5 = 13 + 5 = 18.", "3 * 4 + 5 = 13 + 5", "17"),
        ("Ones: 2 + 3 = 6. Both: 30 + 5 = 36.", "2 + 3 = 6", "5"),
        ("He paid $5 x 3 = $16.", "$5 * 3 = $16", "15"),
        ("1,200 + 300 = 1,600 and so on", "1,200 + 300 = 1,600", "1500"),
        ("7 / 2 = 4.5", "7 / 2 = 4.5", "3.5"),
        ("10 / 3 = 3.4", "10 / 3 = 3.4", "10/3"),
        ("17 / 2 = 8 buses", "17 / 2 = 8", "8.5"),
        ("(3 + 4) * 2 = 15", "(3 + 4) * 2 = 15", "14"),
        ("It is (3 + 4 = 8).", "3 + 4 = 8", "7"),
        (r"$\frac{1}{2} \times 4 = 3$", "(1)/(2) * 4 = 3", "2"),
        ("12 - 3 * 2 = 18", "12 - 3 * 2 = 18", "6"),
        ("It is 2 + 2 = <<2+2=5>>5 now", "2 + 2 = 5", "4"),
    ],
)
def test_first_false_equation(text: str, equation: str, right: str) -> None:
    found = first_wrong_equation(text)
    assert found is not None and (found.text, found.right) == (equation, right)
    assert found.text.startswith(f"{found.left} = ")


@pytest.mark.parametrize(
    "text",
    [
        "", "no numbers", "3 * 4 = 12. 12 + 5 = 17.", "10 / 3 = 3.33",
        "2x + 3 * 2 = 7", "2 1/2 + 1 = 3 1/2", "6 * 2 = 1 dozen", "x - 5 - 3 = 12 so x - 5 = 15", "2x + 3 = 7",
        "(3+4)*2 = 14", "Half of 8 + 2 = 6", "3 of 4 = 12", "50% + 10 = 15", "4 + 4 = 8x", "1 / 0 = 5", "n = 5",
        "48/2 = <<48/2=24>>24 clips", "3 + 4 = 7 * 2 - 7", "2^3 = 8 and 5 + 2^2 = 9", "1 + 1" * 50_000,
    ],
)  # fmt: skip
def test_what_is_right_or_not_read_gives_nothing(text: str) -> None:
    assert first_wrong_equation(text) is None


def test_every_synthetic_solution_passes_and_a_spoiled_one_does_not() -> None:
    problems = SyntheticWordProblems(levels={1: 1.0, 3: 1.0, 5: 1.0}, num_train=60).problems("train")
    for problem in problems:
        for text, path in (problem.solution_set or {}).items():
            assert first_wrong_equation(text) is None, text
            if path == "steps/forward":
                assert first_wrong_equation(text.replace(f"= {problem.answer}.", f"= {problem.answer}1.")) is not None


@pytest.mark.skipif(not GSM8K.is_file(), reason="the shared data are not here")
def test_false_alarms_on_real_solutions_are_rare() -> None:
    answers = [json.loads(line)["answer"] for line in GSM8K.read_text().splitlines()]
    assert sum(first_wrong_equation(answer) is not None for answer in answers) < 0.03 * len(answers)
