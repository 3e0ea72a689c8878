"""The grammar of answers: what can be read, why the rest cannot, and that nothing is ever run."""

from __future__ import annotations

import pytest

from lightning_gfn.prompts.incentives import (
    NO_NUMBERS,
    OUT_OF_RANGE,
    WRONG_COUNT,
    UnusableAnswer,
    incentive_prompt,
    read_incentives,
    written_number,
)

NAMES = ("lever 1", "lever 2", "door")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[0, 5, 0]", (0, 5, 0)),
        ("0 2.5 1", (0, 2.5, 1)),
        ("I set 3 levers: (0; 5; 1).", (0, 5, 1)),
        ("lever 1: 0, lever 2 = 4.5 and door: 1", (0, 4.5, 1)),
        ("**Lever 1**: 2\nLever 2: 3\nDoor: 0", (2, 3, 0)),
        (" 051\n", (0, 5, 1)),
        ("[1, 2] no, [1, 2, 3]", (1, 2, 3)),
    ],
)
def test_usable_answers(text: str, values: tuple[float, ...]) -> None:
    assert read_incentives(text, NAMES, (0.0, 5.0)) == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", NO_NUMBERS),
        ("as high as possible", NO_NUMBERS),
        ("[1, 2]", WRONG_COUNT),
        ("[1, 2, 3, 4]", WRONG_COUNT),
        ("lever 1: 3, door: 1", WRONG_COUNT),
        ("[0, 6, 0]", OUT_OF_RANGE),
        ("[-1, 0, 0]", OUT_OF_RANGE),
        ("991", OUT_OF_RANGE),
        ("[float('nan'), inf, open('x')]", NO_NUMBERS),
        ("[2**2, 1+1, __import__('os')]", WRONG_COUNT),
    ],
)
def test_unusable_answers_say_why(text: str, reason: str) -> None:
    with pytest.raises(UnusableAnswer, match=f"^{reason}$"):
        read_incentives(text, NAMES, (0.0, 5.0))


def test_an_answer_as_prompts_show_it_is_read() -> None:
    prompt = incentive_prompt("Rules.", "lever 1", NAMES, (0.0, 5.0), [((0.0, 2.5, 1.25), 13.6, {"door open": 0.25})])
    assert "[0, 2.5, 1.25] -> reward 14, door open 0.2" in prompt
    assert "Active: lever 1." in prompt and "3 numbers from 0 to 5: [lever 1, lever 2, door]" in prompt
    assert read_incentives(prompt.splitlines()[-1].split("->")[0], NAMES, (0.0, 5.0)) == (0.0, 2.5, 1.25)


@pytest.mark.parametrize(("value", "text"), [(10.0, "10"), (0.0, "0"), (2.5, "2.5"), (0.25, "0.25"), (100.0, "100")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert written_number(value) == text
