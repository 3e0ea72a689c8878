"""Reference answers are read whole or refused, numbers of JSON keep their digits, and a style of one's own arrives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from datamodules.aqua import Aqua
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import written_number
from datamodules.gsm8k import GSM8K
from datamodules.math import Math
from datamodules.metamath import MetaMath
from datamodules.step_labels import StepwiseRows
from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.answers import extract_answer, is_equivalent


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def first(data: type[RowDataModule], path: str, **settings: Any) -> Any:
    return data(path, val_fraction=0.0, **settings).problems("train")[0]


WHOLE = [
    ("3/4", "3/5"),
    ("2, 3", "2"),
    ("3:30", "3"),
    ("1e5", "1"),
    ("1 000", "1"),
    ("12-15", "12"),
    ("2\\frac12", "2"),
    ("2 1/2", "2"),
    ("50%", "51"),
    ("45 dollars", "45 cents"),
    ("101_2", "101"),
    ("1.5 x 10^3", "1.5"),
]


@pytest.mark.parametrize("data", [GSM8K, MetaMath])
@pytest.mark.parametrize(("answer", "wrong"), WHOLE)
def test_gsm8k_answers_are_read_whole(tmp_path: Path, data: type[RowDataModule], answer: str, wrong: str) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "How much is left?", "answer": f"So it is.\n#### {answer}"})
    problem = first(data, path)
    assert problem.answer == answer
    assert is_equivalent(extract_answer(problem.solutions[0], problem.answer_style), problem.answer)
    assert not is_equivalent(wrong, problem.answer)
    assert is_equivalent(extract_answer(f"#### {answer}", "gsm8k"), answer)


@pytest.mark.parametrize("data", [GSM8K, MetaMath])
@pytest.mark.parametrize("answer", ["5 apples and 3 pears", "18 (19)", "56 (1,000 in all)", "4 plus 7"])
def test_an_answer_that_cannot_be_read_whole_is_refused(tmp_path: Path, data: type[RowDataModule], answer: str) -> None:
    good = {"question": "a?", "answer": "#### 1"}
    path = write(tmp_path / "rows.jsonl", good, {"question": "b?", "answer": f"#### {answer}"})
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: field 'answer': only '.*' of the final answer"):
        data(path).problems("train")
    skipping = data(path, on_bad_row="skip", val_fraction=0.0)
    with pytest.warns(UserWarning, match="skipped 1 of 2 rows"):
        assert len(skipping.problems("train")) == 1


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("0.00001", "0.00001"),
        ("1e-5", "0.00001"),
        ("1e16", "10000000000000000"),
        ("1.5e300", "15" + "0" * 299),
        ("12", "12"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("0.1", "0.1"),
        ("-2.50", "-2.5"),
        ('"1e-05"', "1e-05"),
        ('"3/4"', "3/4"),
    ],
)
@pytest.mark.parametrize("data", [Math, GSM8K])
def test_numbers_of_an_answer_column(tmp_path: Path, data: type[RowDataModule], value: str, answer: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "a?", "result": {value}}}\n')
    problem = first(data, str(path), columns={"answer": "result"})
    assert problem.answer == answer and is_equivalent(answer, problem.answer)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "true", "[5]", '" "'])
def test_an_answer_that_is_no_finite_number_or_text_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"problem": "a?", "answer": {value}}}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: field 'answer': expected"):
        Math(str(path)).problems("train")


def test_written_numbers_are_what_python_reads_again() -> None:
    for value in (1e-05, 1e16, 0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -2.5, 0.0, 7, 10**30):
        written = written_number(value)
        assert written is not None and "e" not in written and float(written) == float(value)
    assert written_number(float("nan")) is None


STYLES = [
    ("last_number", "It is $56.", "56"),
    (r"A: (.+)", "so\nA: **56**", "56"),
    (r"(?:answer|result) is (?P<answer>\S+)", "the result is 56.", "56"),
    ("math", "so \\boxed{56}", "56"),
]


@pytest.mark.parametrize(("style", "completion", "answer"), STYLES)
def test_a_style_of_ones_own_reaches_every_problem(tmp_path: Path, style: str, completion: str, answer: str) -> None:
    gsm8k = write(tmp_path / "gsm8k.jsonl", {"question": "a?", "answer": "So.\n#### 56"})
    math = write(tmp_path / "math.jsonl", {"problem": "a?", "answer": 56})
    options = {"question": "a?", "options": ["A)1", "B)56"], "rationale": "So.", "correct": "B"}
    aqua = write(tmp_path / "aqua.jsonl", options)
    problems = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data, path in ((GSM8K, gsm8k), (MetaMath, gsm8k), (Math, math), (Aqua, aqua)):
            problems.append(first(data, path, answer_style=style))  # type: ignore[arg-type]
    generated = SyntheticWordProblems(num_train=3, num_val=1, num_test=1, answer_style=style).problems("train")
    assert {problem.answer_style for problem in [*problems, *generated]} == {style}
    for problem in problems:
        assert is_equivalent(extract_answer(completion, problem.answer_style), problem.answer)
        assert not is_equivalent(extract_answer(completion.replace("56", "57"), problem.answer_style), problem.answer)
    assert extract_answer(completion, style) == answer


def test_the_style_comes_from_yaml() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(GSM8K, "data")
    config = parser.parse_string("data:\n  answer_style: 'A: (.+)'\n")
    assert parser.instantiate(config).data.answer_style == "A: (.+)"
    assert GSM8K().answer_style == "gsm8k"


@pytest.mark.parametrize("style", ["latex", "A: (.+", "(a)(b)", r"^(.*.*.*.*.*.*.*.*)=$"])
def test_an_unusable_style_is_refused_before_anything_is_read(style: str) -> None:
    for make in (GSM8K, SyntheticWordProblems):
        with pytest.raises(ValueError, match="style"):
            make(answer_style=style)  # type: ignore[operator]
    with pytest.raises(ValueError, match="answer_style is not used here"):
        StepwiseRows("org/name", answer_style="gsm8k")


def test_reference_solutions_in_another_style_are_said(tmp_path: Path) -> None:
    rows = [{"question": f"{i}?", "answer": f"So.\n#### {i}"} for i in range(3)]
    path = write(tmp_path / "rows.jsonl", *rows)
    with pytest.warns(UserWarning, match=r"3 of 3 reference solutions hold no answer in the style 'A: \(\.\+\)'"):
        GSM8K(path, val_fraction=0.0, answer_style="A: (.+)").problems("train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GSM8K(path, val_fraction=0.0, answer_style="last_number").problems("train")
        GSM8K(path, val_fraction=0.0).problems("train")
