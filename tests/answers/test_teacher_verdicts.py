r"""Pairs of answers with a teacher's verdict: ``predicted == reference`` and ``predicted != reference``."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gfn.answers import is_equivalent

NOUNS = [
    "dollars", "euros", "pounds", "cents", "pages", "books", "weeks", "cookies", "tickets", "apples", "hours",
    "students", "miles", "minutes", "days", "chairs", "marbles", "stickers", "people", "kilometers", "trees",
    "flowers", "pieces", "slices", "boxes", "eggs", "points", "games", "shirts", "candies", "inches", "feet",
    "years", "months", "liters", "gallons", "tons", "bottles", "cars", "dogs", "cats", "kittens", "birds",
    "bananas", "crayons", "pencils", "toys", "sandwiches", "muffins", "cupcakes", "pizzas", "seashells", "km/h",
    "m/s", "km", "m", "kg", "g", "cm", "mm", "L", "ml", "lb", "oz", "mph",
]  # fmt: skip


PAIRS = Path(__file__).parents[1] / "fixtures" / "answers" / "pairs.txt"
"""Rows ``predicted == reference`` or ``predicted != reference`` under headings ``## kind``."""


def pairs() -> list[tuple[str, str, str, bool]]:
    """Kind, predicted, reference and verdict of every row."""
    rows, kind = [], ""
    for line in filter(None, map(str.strip, PAIRS.read_text(encoding="utf-8").splitlines())):
        right = " == " in line
        predicted, _, reference = line.partition(" == " if right else " != ")
        if line.startswith("## "):
            kind = line.removeprefix("## ")
        else:
            assert kind and predicted and reference, line
            rows.append((kind, predicted, reference, right))
    assert len(rows) > 1000
    return rows


@pytest.mark.parametrize(("kind", "predicted", "reference", "right"), pairs())
def test_a_teacher_would_agree(kind: str, predicted: str, reference: str, right: bool) -> None:
    assert is_equivalent(predicted, reference) is right


@pytest.mark.parametrize("noun", NOUNS)
def test_any_noun_may_follow_a_number(noun: str) -> None:
    for number, other in (("45", "54"), ("1,200", "1201"), ("2.5", "25"), ("3/4", "3")):
        assert is_equivalent(f"{number} {noun}", number) and is_equivalent(number, f"{number} {noun}")
        assert is_equivalent(f"{number} {noun}.", f"{number} {noun}")
        assert is_equivalent(f"**{number} {noun}** in total", number)
        assert is_equivalent(rf"{number}\text{{ {noun}}}", number)
        assert not is_equivalent(f"{number} {noun}", other) and not is_equivalent(other, f"{number} {noun}")
        assert not is_equivalent(f"{number} {noun} or {other} {noun}", number)
