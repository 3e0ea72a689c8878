"""Feedback by rule at each strength, and its place in the prompt."""

from __future__ import annotations

import pytest

from lightning_gfn.prompts.math_feedback import check_strength, check_template, leading_share, verdict, with_feedback
from lightning_gfn.types import Problem

PROBLEM = Problem(id="p", prompt="3 bags of 4 and 5 more?\n", answer="17", solutions=("3 * 4 = 12. 12 + 5 = 17.",))
WRONG = "3 * 4 = 13. 13 + 5 = 18."


@pytest.mark.parametrize(
    ("strength", "text"),
    [
        (0.0, "The attempt is wrong."),
        (0.25, "The attempt is wrong. 3 * 4 = 13 is false."),
        (0.5, "The attempt is wrong. 3 * 4 = 13 is false. 3 * 4 = 12."),
        (0.75, "The attempt is wrong. 3 * 4 = 13 is false. 3 * 4 = 12. The answer is 17."),
        (
            1.0,
            "The attempt is wrong. 3 * 4 = 13 is false. 3 * 4 = 12. The answer is 17. "
            "A solution: 3 * 4 = 12. 12 + 5 = 17.",
        ),
    ],
)
def test_strength_adds_up(strength: float, text: str) -> None:
    assert verdict(PROBLEM, WRONG, False, strength) == text
    assert verdict(PROBLEM, WRONG, False, min(1.0, strength + 0.2 * (strength < 1))) == text


def test_what_is_not_known_is_left_out() -> None:
    bare = Problem(id="p", prompt="?")
    assert verdict(bare, "no sums", False, 1.0) == "The attempt is wrong."
    assert verdict(PROBLEM, WRONG, True, 0.5) == "The attempt is right."
    assert verdict(PROBLEM, WRONG, True, 0.75) == "The attempt is right. The answer is 17."


def test_template() -> None:
    template = "Hint: {feedback}\n{prompt}A:"
    check_template(template)
    assert with_feedback(template, "Q {feedback}?\n", "mind {prompt}") == "Hint: mind {prompt}\nQ {feedback}?\nA:"
    assert with_feedback("{prompt}|{feedback}", "Q", "F") == "Q|F"
    for broken in ("{prompt}", "{feedback}", "{prompt}{prompt}{feedback}"):
        with pytest.raises(ValueError, match="exactly once"):
            check_template(broken)
    with pytest.raises(ValueError, match="strength is 1.1"):
        check_strength(1.1)


def test_leading_share_keeps_the_text_as_it_is_written() -> None:
    text = "3 * 4 = 12.\nSo  17."
    assert [leading_share(text, share) for share in (0.0, 0.3, 1.0)] == ["3", "3 * 4", text]
    assert leading_share("", 0.5) == ""
