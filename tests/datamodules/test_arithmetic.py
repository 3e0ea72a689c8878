"""Questions of arithmetic: right rationales, splits that share nothing, and files that hold what they must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.inference.arithmetic import ANSWER, IntegerArithmetic
from datamodules.inference.arithmetic_questions import parsed
from lightning_gfn.answers import extract_answer
from lightning_gfn.metrics.groups import AccuracyByGroup
from lightning_gfn.types import EvalRecord, Problem

QUERY = "Question: {} = ? Answer:"


def questions(data: IntegerArithmetic) -> dict[str, set[str]]:
    return {part: {question.text for question in found} for part, found in data.questions().items()}


def test_rationales_work_a_question_off_from_left_to_right() -> None:
    question = parsed("6 - 0 - 4 - 8")
    assert question.text == "6 - 0 - 4 - 8"
    assert question.steps == "6 - 0 = 6, 6 - 4 = 2, 2 - 8 = -6"
    assert question.answer == -6


@pytest.mark.parametrize("seed", [0, 1])
def test_no_question_is_in_two_splits_of_any_seed(seed: int) -> None:
    data = IntegerArithmetic(num_train=400, num_seeds=20, generator_seed=seed)
    found, others = questions(data), questions(IntegerArithmetic(num_train=400, generator_seed=7))
    assert {part: len(texts) for part, texts in found.items()} == {"seeds": 20, "train": 400, "val": 32, "test": 300}
    assert not found["seeds"] & found["train"]
    for part in ("seeds", "train", "val"):
        for texts in (found, others):
            assert not found[part] & texts["test"]
    trained = [*data.questions()["seeds"], *data.questions()["train"]]
    assert {len(question.numbers) for question in trained} == {3, 4}
    assert {problem.metadata["operands"] for problem in data.problems("test")} == {3, 4, 5, 6, 7, 8}


def test_problems_have_what_each_method_needs() -> None:
    data = IntegerArithmetic(num_train=10, num_seeds=5, shots=3)
    first, *others = data.problems("train")
    assert len(others) == 14
    question = data.questions()["seeds"][0]
    assert first.prompt.endswith(QUERY.format(question.text))
    assert first.prompt.count("Question:") == 4
    assert first.prompt.count(QUERY.format(question.text)) == 1, "a question is no example of itself"
    assert first.solutions == (f" {question.steps}",)
    assert first.evidence == f". The answer is {question.answer}."
    assert [bool(problem.solutions) for problem in others] == [True] * 4 + [False] * 10
    supervised = IntegerArithmetic(num_train=10, num_seeds=5, train="seeds", solution="answer").problems("train")
    assert [problem.id for problem in supervised] == [first.id, *(problem.id for problem in others[:4])]
    assert supervised[0].solutions == (f" {question.steps}. The answer is {question.answer}.",)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" 6 - 0 = 6, 6 - 8 = -2", "-2"), (" 6 - 0 = 6, 6 - 8 = -2. The answer is 3.", "3"), (" 6 - 0 =", None),
        ("", None), (" 6", None),
    ],
)  # fmt: skip
def test_the_last_result_or_stated_answer_counts(text: str, answer: str | None) -> None:
    assert extract_answer(text, ANSWER) == answer


def write(path: Path, rows: list[Any]) -> str:
    path.write_text(json.dumps(rows))
    return str(path)


def row(text: str, rationale: str | None = None) -> dict[str, Any]:
    value = {"str_query": QUERY.format(text), "num_sol": parsed(text).answer, "str_sol": ". The answer is 0."}
    return value if rationale is None else {**value, "str_rationale": rationale}


def files(tmp_path: Path, **changes: list[Any]) -> dict[str, str]:
    rows = {
        "train_file": [row("1 + 1 + 1"), row("2 + 2 - 1"), row("9 - 1 - 1"), row("9 - 1 - 1")],
        "seed_file": [row("3 - 1 + 4", "3 - 1 =, 2 + 4 ="), row("5 - 1 + 4", "5 - 1 =, 4 + 4 =")],
        "test_file": [row("2 + 2 - 1"), row("5 - 1 + 4")],
        **changes,
    }
    return {name: write(tmp_path / f"{name}.json", found) for name, found in rows.items()}


def test_questions_of_the_test_are_left_out_of_training(tmp_path: Path) -> None:
    data = IntegerArithmetic(**files(tmp_path), num_val=0)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match=r"1 of 3 questions of data.train_file and 1 of 2 of data.seed_file are among"):
        found = questions(data)
    assert found == {
        "seeds": {"3 - 1 + 4"}, "train": {"1 + 1 + 1", "9 - 1 - 1"}, "val": set(),
        "test": {"2 + 2 - 1", "5 - 1 + 4"},
    }  # fmt: skip
    assert data.problems("train")[0].solutions == (" 3 - 1 =, 2 + 4 =",)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"test_file": [{**row("1 + 1"), "num_sol": 3}]}, r"test_file.json:\d+: field 'num_sol': is 3, but"),
        ({"train_file": [row("1 + 1"), {"str_query": "1+1"}]}, r"train_file.json:\d+: field 'str_query'"),
        ({"seed_file": [row("1 + 1")]}, r"seed_file.json:\d+: field 'str_rationale'"),
        ({"test_file": [3]}, r"test_file.json:\d+: int instead of an object"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: dict[str, list[Any]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        IntegerArithmetic(**files(tmp_path, **rows)).problems("test")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"operands": (1,)}, "data.operands"), ({"operators": ("*",)}, "data.operators"),
        ({"shots": 50}, "data.num_seeds"), ({"train_file": "x.json"}, "data.seed_file is missing"),
        ({"num_test": 900, "test_operands": (3,)}, "there are only .* test questions of 3 operands"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        IntegerArithmetic(**settings).problems("test")


def test_published_files_leak_and_are_cleaned(shared_data: Path) -> None:
    folder = shared_data / "gfn_arithmetic"
    data = IntegerArithmetic(
        train_file=str(folder / "tool_1digit_34_op+-_hw.json"),
        seed_file=str(folder / "tool_1digit_34_op+-_train_50.json"),
        test_file=str(folder / "tool_1digit_3_op+-_test.json"),
    )
    with pytest.warns(UserWarning, match=r"85 of 1000 .* and 15 of 50 .* among the 474"):
        found = questions(data)
    assert not found["test"] & (found["seeds"] | found["train"] | found["val"])


def test_accuracy_is_given_by_group() -> None:
    metric = AccuracyByGroup("operands", [3, 5], k=4)
    for operands, answers in [(3, "1 1 2 1"), (3, "2 2 2 1"), (5, "1 1 1 1"), (8, "2 2 2 2")]:
        texts = tuple(f"= {answer}" for answer in answers.split())
        problem = Problem(
            id=f"{operands}/{answers}", prompt="", answer="1", answer_style=ANSWER, metadata={"operands": operands}
        )
        right = tuple(text == "= 1" for text in texts)
        metric.update(EvalRecord(problem, 0.1, texts, right, (0.0,) * 4, (1,) * 4, (0.0,) * 4, (False,) * 4))
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == {
        "solve_rate_operands_3": 0.5, "maj_at_4_operands_3": 0.5, "solve_rate_operands_5": 1.0,
        "maj_at_4_operands_5": 1.0,
    }  # fmt: skip
    three = Problem(id="3", prompt="", metadata={"operands": 3})
    with pytest.raises(ValueError, match="k=8, but problem"):
        AccuracyByGroup("operands", [3]).row(EvalRecord(three, 0.1, ("",), (True,), (0.0,), (1,), (0.0,), (False,)))
