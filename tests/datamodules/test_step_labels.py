"""Judged solutions: the forms that the data sets come in, their known faults, errors by line and field, splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.common.judged import JudgedRows
from datamodules.step_labels import PRM800K, MathShepherd, OutcomeRows, PairRows, StepwiseRows
from lightning_gfn.preference_types import JudgedSolution, Preference

ALL = {"val_fraction": 0.0, "test_fraction": 0.0}
FILES: dict[str, type[JudgedRows]] = {
    "math_shepherd": MathShepherd,
    "stepwise": StepwiseRows,
    "prm800k": PRM800K,
    "outcome": OutcomeRows,
    "pairs": PairRows,
}


def read(data: type[JudgedRows], path: Path, **settings: Any) -> list[Any]:
    return data(str(path), **{**ALL, **settings}).problems("train")


@pytest.fixture
def judged(fixtures: Path) -> Path:
    return fixtures / "judged"


def test_math_shepherd_by_position(judged: Path) -> None:
    rows: list[JudgedSolution] = read(MathShepherd, judged / "math_shepherd.jsonl")
    assert [row.labels for row in rows] == [(1, 1), (0, 0), (1, 1, 0), (1, 1), (1, 1), (1, 0), (1, None)]
    assert rows[0].prompt == "Question: Ann has 3 + 4 pens. How many?\nAnswer:\n"
    assert rows[0].steps == ("Ann has 3 + 4 = 7 pens.\n", "The answer is: 7")
    assert rows[3].prompt.splitlines()[0] == "Question: Ian reads  5 pages. How many?", "the tag in the question goes"
    assert rows[4].steps == ("8 coins.\n", "The answer is: 8"), "step 1: in small letters"
    assert rows[5].steps == ("8 coins.\n", "The answer is: 9"), "no Step 1: at all"
    assert rows[5].prompt == "Question: Leo has 8 coins. How many?\nAnswer:\n"
    assert rows[6].steps == ("1 bead.\n", "The answer is: 1"), "text behind the last tag is a step without label"
    assert not any("ки" in row.prompt + "".join(row.steps) for row in rows)
    kept = read(MathShepherd, judged / "math_shepherd.jsonl", numbering=True, strip_calculator=False)
    assert kept[0].steps == ("Step 1: Ann has 3 + 4 = <<3+4=7>>7 pens.\n", "Step 2: The answer is: 7")


def test_searching_the_label_for_signs_would_be_wrong(judged: Path) -> None:
    """The fixture can tell: its arithmetic holds signs that are no labels."""
    for line in (judged / "math_shepherd.jsonl").read_text().splitlines()[:3]:
        row = json.loads(line)
        assert sum(row["label"].count(sign) for sign in "+-") > row["input"].count("ки")


def test_real_math_shepherd_rows(shared_data: Path) -> None:
    path = shared_data / "math_shepherd_sample" / "samples_math-shepherd.jsonl"
    rows: list[JudgedSolution] = read(MathShepherd, path, numbering=True, strip_calculator=False)
    assert len(rows) == 7
    for row, line in zip(rows, path.read_text(encoding="utf-8").splitlines(), strict=True):
        raw = json.loads(line)
        signs = "".join("+" if label else "-" for label in row.labels)
        whole = raw["input"]
        for sign in signs:
            whole = whole.replace("ки", sign, 1)
        assert whole == raw["label"]
        assert len(row.steps) == len(row.labels) == raw["input"].count("ки")
        assert all(step.startswith(f"Step {k}: ") for k, step in enumerate(row.steps, start=1))
    assert rows[0].labels == (1, 1, 1, 1, 0)


def test_trl_stepwise_rows(judged: Path) -> None:
    rows: list[JudgedSolution] = read(StepwiseRows, judged / "stepwise.jsonl")
    assert rows[0] == JudgedSolution("steps/train/0", "1 + 1?\n", ("1 + 1 = 2.\n", "The answer is: 2"), (1.0, 1.0))
    assert rows[1].steps == ("1 + 1 = 3.\n", "The answer is: 3"), "no second line break"
    soft: list[JudgedSolution] = read(StepwiseRows, judged / "stepwise.jsonl", labels="soft_labels")
    assert soft[0].labels == (0.75, 1.0)


def test_prm800k_takes_what_was_chosen(judged: Path) -> None:
    rows: list[JudgedSolution] = read(PRM800K, judged / "prm800k.jsonl")
    assert len(rows) == 2, "a row without any label is left out"
    assert rows[0].prompt == "Problem: What is 2 + 3?\nSolution:\n"
    assert rows[0].steps == ("Add them.\n", "2 + 3 = 5.\n", "# Answer\n\n5")
    assert rows[0].labels == (1.0, 1.0, None)
    assert rows[1].steps[-1] == "2 * 3 = 5." and rows[1].labels == (1.0, 0.0)
    strict: list[JudgedSolution] = read(PRM800K, judged / "prm800k.jsonl", neutral=None)
    assert strict[0].labels == (None, 1.0, None)


def test_outcome_rows_label_the_last_step(judged: Path) -> None:
    rows: list[JudgedSolution] = read(OutcomeRows, judged / "outcome.jsonl")
    assert [(row.steps, row.labels) for row in rows] == [
        (("1 + 1 = 2.\n", "The answer is: 2"), (None, 1.0)),
        (("The answer is: 5",), (0.0,)),
    ]


def test_pairs(judged: Path) -> None:
    rows: list[Preference] = read(PairRows, judged / "pairs.jsonl")
    assert rows[0] == Preference("pair/train/0", "1 + 1?\n", "The answer is: 2", "The answer is: 3")
    assert rows[1] == Preference("pair/train/1", "2 + 2?\nThe answer is:", " 4", " 5")


@pytest.mark.parametrize("name", list(FILES))
def test_batches_and_tokenizer_texts(name: str, judged: Path) -> None:
    data = FILES[name](str(judged / f"{name}.jsonl"), batch_size=2, **ALL)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert sum(map(len, batches)) == len(data.problems("train"))
    texts = list(data.training_texts())
    assert all(any(text.startswith(row.prompt) and text != row.prompt for text in texts) for row in sum(batches, []))


def test_rows_of_one_problem_share_a_split(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{n // 4} + 1?\n", "completions": [f"step {n}"], "labels": [True], "problem_id": f"p{n // 4}"}
        for n in range(400)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = StepwiseRows(str(path), val_fraction=0.2, test_fraction=0.3)
    found = {split: {row.prompt for row in data.problems(split)} for split in ("train", "val", "test")}
    assert sum(map(len, found.values())) == 100 == len(set().union(*found.values()))
    assert 10 <= len(found["val"]) <= 30 and 20 <= len(found["test"]) <= 40


GOOD = {"input": "Q? Step 1: a ки\nStep 2: b ки", "label": "Q? Step 1: a +\nStep 2: b -", "task": "GSM8K"}
STEPS = {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]}


@pytest.mark.parametrize(
    ("data", "row", "field", "reason"),
    [
        (MathShepherd, {**GOOD, "label": GOOD["label"].replace("+", "*")}, "label", "tag 1: expected \\+ or -"),
        (MathShepherd, {**GOOD, "label": GOOD["label"][:-1]}, "label", "tag 2: expected \\+ or -"),
        (MathShepherd, {**GOOD, "label": GOOD["label"] + "x"}, "label", "1 characters more"),
        (
            MathShepherd,
            {**GOOD, "label": GOOD["label"].replace("b", "c")},
            "label",
            "differs from input between tags 1",
        ),
        (MathShepherd, {**GOOD, "input": "Q? Step 1: a"}, "input", "no tag"),
        (MathShepherd, {**GOOD, "input": 3}, "input", "expected text"),
        (MathShepherd, {"input": "a ки\nb ки", "label": "a +\nb -"}, "input", "where the question ends is unknown"),
        (MathShepherd, {"input": "Q? Step 1: ки", "label": "Q? Step 1: +"}, "input", "step 1 is empty"),
        (StepwiseRows, {**STEPS, "labels": [True]}, "labels", "has 1 entries for 2 completions"),
        (StepwiseRows, {**STEPS, "labels": [True, "no"]}, "labels", "entry 2: expected true, false"),
        (StepwiseRows, {**STEPS, "labels": [True, 2]}, "labels", "entry 2: expected true, false"),
        (StepwiseRows, {**STEPS, "completions": ["a", " "]}, "completions", "entry 2: expected text"),
        (StepwiseRows, {**STEPS, "completions": "ab"}, "completions", "expected a list"),
        (StepwiseRows, {**STEPS, "prompt": ""}, "prompt", "expected text"),
        (PRM800K, {"question": {"problem": "q"}, "label": {"steps": [{}]}}, r"label.steps\[0\]", "not among 0"),
        (PRM800K, {"question": {}, "label": {"steps": []}}, "question", "problem"),
        (OutcomeRows, {"prompt": "p", "completion": "c"}, "label", "missing"),
        (OutcomeRows, {"prompt": "p", "completion": "c", "label": "yes"}, "label", "expected true"),
        (PairRows, {"prompt": "p", "chosen": "a", "rejected": "a"}, "rejected", "same text"),
    ],
)
def test_errors_name_file_line_and_field(
    data: type[JudgedRows], row: dict[str, Any], field: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=rf"rows.jsonl:2: field '{field}': .*{reason}"):
        read(data, path)
    path.write_text(json.dumps(row) + "\n" + json.dumps(GOOD if data is MathShepherd else STEPS) + "\n")
    if data in (MathShepherd, StepwiseRows):
        with pytest.warns(UserWarning, match="skipped 1 of 2 rows"):
            assert len(read(data, path, on_bad_row="skip")) == 1
