"""Where a rationale ends, and what each change makes of it."""

from __future__ import annotations

import pytest

from lightning_gfn.answers import answer_place, extract_answer
from lightning_gfn.rollouts.reasoning.rationales import corrupted, reasoned, truncated, units

CASES = [
    ("3 + 4 = 7.\nThe answer is: 7", "metamath", "3 + 4 = 7.", "\nThe answer is:", "7"),
    ("3 + 4 = 7\nso 7\n#### 7", "gsm8k", "3 + 4 = 7\nso 7", "\n####", "7"),
    ("It is 7. #### 1,007 dollars", "gsm8k", "It is 7.", " ####", "1007"),
    ("Add 3, 4.\nSo the total is $\\boxed{ 7 }$.", "math", "Add 3, 4.", "\nSo the total is $\\boxed{", "7"),
    ("3 + 4\nThat is 7", "last_number", "3 + 4", "\nThat is", "7"),
    ("3 + 4 = 7", "last_number", "3 + 4 =", "", "7"),
    ("first 3\nresult 3 so A: 7", "A: (.+)", "first 3\nresult 3 so", " A:", "7"),
]


@pytest.mark.parametrize(("text", "style", "rationale", "cue", "answer"), CASES)
def test_rationale_cue_and_answer(text: str, style: str, rationale: str, cue: str, answer: str) -> None:
    found = reasoned(text, style)
    assert found is not None and (found.rationale, found.cue, found.answer) == (rationale, cue, answer)
    assert text.startswith(found.rationale + found.cue) and found.answer == extract_answer(text, style)


@pytest.mark.parametrize("text", ["The answer is: 7", "7", "only words", "3 + 4\nThe answer is:"])
def test_texts_without_a_rationale_or_an_answer(text: str) -> None:
    assert reasoned(text, "metamath") is None


@pytest.mark.parametrize(
    ("text", "style", "written"),
    [
        ("#### $1,234.", "gsm8k", "1,234."),
        ("a \\boxed{\\frac{1}{2}} b", "math", "\\frac{1}{2}"),
        ("\\boxed 5 $", "math", "5"),
        ("The answer is: **12**.\nx", "metamath", "**12**."),
        ("in all -3 apples", "last_number", "-3"),
        ("A: 5 B", "A: ([0-9])", "5"),
    ],
)
def test_the_place_of_an_answer_is_its_text(text: str, style: str, written: str) -> None:
    place = answer_place(text, style)
    assert place is not None and text[place.start : place.end] == written
    assert place.marker <= place.start and place.answer == extract_answer(text, style)
    assert answer_place("no answer", style) is None


@pytest.mark.parametrize(
    ("rationale", "steps"),
    [
        ("a 1\nb 2\n\nc", ["a 1\n", "b 2\n\n", "c"]),
        ("Add 1. Then 2! So 3.5.", ["Add 1. ", "Then 2! ", "So 3.5."]),
        ("take one and two", ["take ", "one ", "and ", "two"]),
        ("word", ["word"]),
    ],
)
def test_steps_are_lines_or_sentences_or_words(rationale: str, steps: list[str]) -> None:
    assert units(rationale) == steps and "".join(units(rationale)) == rationale
    assert truncated(rationale, "", 0.0) == "".join(steps[: len(steps) // 2]).rstrip()


def test_a_corrupted_rationale_has_another_last_number() -> None:
    assert corrupted("4 apples, 12 in all.", "", 0.0) == "4 apples, 13 in all."
    assert corrupted("4 apples, 12 in all.", "", 0.999) == "4 apples, 21 in all."
    assert corrupted("no number", "", 0.5) is None
