"""AQuA-RAT: options in the prompt, answers by letter or by text, bad rows named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.aqua import Aqua
from lightning_gfn.answers import extract_answer, is_equivalent


def test_rows_become_problems(fixtures: Path) -> None:
    first, second, third = Aqua(str(fixtures / "aqua"), val_fraction=0.0).problems("test")
    assert first.prompt == (
        "Question: A crate holds 12 jars. How many jars are in 4 crates?\n"
        "Options: A) 16 B) 36 C) 48 D) 52 E) None of these\nAnswer:\n"
    )
    assert (first.id, first.answer, first.answer_style) == ("aqua/test/0", "C) 48", "metamath")
    assert first.solutions == ("4 crates hold 4 * 12 = 48 jars.\nAnswer is C\nThe answer is: C) 48",)
    assert second.answer == "A) Rs 180" and second.solutions == ("900 / 5 = 180.\nThe answer is: A",)
    assert third.answer == "D) 30 kmph" and "C) 25 kmph" in third.prompt
    assert first.metadata == {"options": ["A)16", "B)36", "C)48", "D)52", "E)None of these"], "correct": "C"}


def test_reference_solutions_are_right(fixtures: Path) -> None:
    for problem in Aqua(str(fixtures / "aqua"), val_fraction=0.0).problems("test"):
        assert is_equivalent(extract_answer(problem.solutions[0], "metamath"), problem.answer)


@pytest.mark.parametrize(
    ("predicted", "right"),
    [
        *(("C", True), ("C)", True), ("(C)", True), ("C.", True), ("C) 48", True), ("48", True), ("48.0", True)),
        *(("B", False), ("B) 48", False), ("(B) 48", False), ("36", False), ("c", False), ("C8", False), (None, False)),
    ],
)
def test_letter_or_text_count_and_the_letter_decides(predicted: str | None, right: bool) -> None:
    assert is_equivalent(predicted, "C) 48") is right


def test_texts_of_options_count_as_well() -> None:
    assert is_equivalent("None of these", "E) None of these") and is_equivalent("1/2", "B) 0.5")
    assert not is_equivalent("Cats", "C) 48") and not is_equivalent("A", "48")


def row(**changes: Any) -> dict[str, Any]:
    fields = {"question": "1 + 1?", "options": ["A)1", "B)2"], "rationale": "1 + 1 = 2", "correct": "B"}
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correct": "E"}, r"field 'correct': 'E' is none of the options A, B"),
        ({"options": ["one", "B)2"]}, r"field 'options': expected a text such as 'A\)21', found 'one'"),
        ({"options": "A)1"}, "field 'options': expected a list"),
        ({"options": None}, "field 'options': expected a list"),
        ({"question": None}, "field 'question': missing"),
        ({"correct": None}, "field 'correct or answer': missing"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n" + json.dumps(row(**changes)) + "\n")
    with pytest.raises(ValueError, match=f"rows.jsonl:2: {message}"):
        Aqua(str(path), test_path=str(path)).problems("test")


def test_the_real_questions_load_and_their_answers_hold(shared_data: Path) -> None:
    path = str(shared_data / "aqua_rat" / "dev.jsonl")
    problems = Aqua(path, test_path=path).problems("test")
    assert len(problems) == 254
    for problem in problems:
        assert problem.answer is not None
        letter, text = problem.answer.split(") ", 1)
        assert is_equivalent(letter, problem.answer) and is_equivalent(text, problem.answer)
        assert is_equivalent(extract_answer(problem.solutions[0], "metamath"), problem.answer)
        wrong = "A" if letter != "A" else "B"
        assert not is_equivalent(wrong, problem.answer)
