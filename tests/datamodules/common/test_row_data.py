"""Rows become problems: columns, splits, answers, bad rows, hub sources, missing files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datamodules.common.row_data import RowDataModule
from datamodules.gsm8k import GSM8K
from datamodules.math import Math
from datamodules.metamath import MetaMath
from lightning_gfn.types import Problem


def whole(data: RowDataModule) -> dict[str, list[Problem]]:
    return {split: data.problems(split) for split in ("train", "val", "test")}  # type: ignore[arg-type]


def test_gsm8k_fixture(fixtures: Path) -> None:
    data = GSM8K(str(fixtures / "gsm8k"), val_fraction=0.3)
    splits = whole(data)
    assert [problem.answer for problem in splits["test"]] == ["14", "25"]
    both = {problem.id: problem.answer for problem in splits["train"] + splits["val"]}
    assert both == {f"gsm8k/train/{i}": a for i, a in enumerate(["24", "13", "1200", "-4", "24", "15", "12", "27"])}
    assert splits["train"] and splits["val"]
    first = next(problem for problems in splits.values() for problem in problems if problem.id == "gsm8k/train/0")
    assert first.prompt == "Question: Nora stacks 4 crates with 6 melons each. How many melons is that?\nAnswer:\n"
    assert first.solutions == ("There are 4*6 = 24 melons.\n#### 24",) and first.metadata["steps"] == 1
    kept = GSM8K(str(fixtures / "gsm8k"), strip_calculator=False).problems("test")[0]
    assert kept.solutions == ("2*7 = <<2*7=14>>14.\n#### 14",)


def test_gsm8k_is_read_whole(shared_data: Path) -> None:
    data = GSM8K(str(shared_data / "gsm8k"))
    splits = whole(data)
    assert len(splits["train"]) + len(splits["val"]) == 7473
    assert 0.04 < len(splits["val"]) / 7473 < 0.06
    assert len(splits["test"]) == 1319
    assert data.num_skipped == {"train": 0, "test": 0}
    problems = sum(splits.values(), [])
    assert all(problem.answer is not None and float(problem.answer) == int(problem.answer) for problem in problems)
    assert not any("<<" in solution for problem in problems for solution in problem.solutions)
    assert len({problem.id for problem in problems}) == 8792
    steps = [problem.metadata["steps"] for problem in splits["test"]]
    lines = [json.loads(line)["answer"] for line in (shared_data / "gsm8k/test.jsonl").read_text().splitlines()]
    assert steps == [sum(bool(part.strip()) for part in text.split("####")[0].split("\n")) for text in lines]


def test_metamath_reads_its_gsm8k_test_file(shared_data: Path) -> None:
    train, test = shared_data / "gsm8k" / "train.jsonl", shared_data / "metamath" / "GSM8K_test.jsonl"
    metamath = MetaMath(str(train), test_path=str(test)).problems("test")
    gsm8k = GSM8K(str(shared_data / "gsm8k")).problems("test")
    assert [problem.answer for problem in metamath] == [problem.answer for problem in gsm8k]
    assert all(problem.solutions[0].endswith(f"\nThe answer is: {problem.answer}") for problem in metamath)
    assert metamath[0].prompt.endswith("\n\n### Response:")


def test_metamath_backward_rows_by_column_mapping(shared_data: Path) -> None:
    data = MetaMath(
        str(shared_data / "metamath" / "GSM8K_Backward.jsonl"),
        columns={"answer": "answer"},
        val_fraction=0,
        test_fraction=0.2,
    )
    problems = data.problems("train") + data.problems("test")
    assert len(problems) == 1270
    assert all(problem.solutions == () for problem in problems)


def test_metamath_splits_by_original_question(fixtures: Path) -> None:
    path = str(fixtures / "metamath")
    data = MetaMath(path, val_fraction=0.3, test_fraction=0.3)
    splits = whole(data)
    originals = [{problem.metadata["original_question"] for problem in problems} for problems in splits.values()]
    assert sum(map(len, splits.values())) == 10
    assert sum(map(len, originals)) == len(set.union(*originals)) == 4
    assert {problem.answer for problems in splits.values() for problem in problems} == {
        *"8534",
        "24",
        "21",
        "\\frac{2}{3}",
    } - {"x"}
    gsm = MetaMath(path, types=["GSM_*"], val_fraction=0, test_path=str(fixtures / "gsm8k" / "test.jsonl"))
    assert len(gsm.problems("train")) == 9
    assert len(gsm.problems("test")) == 2
    with pytest.raises(ValueError, match="no train problems"):
        MetaMath(path, types=["NONE_*"]).problems("train")
    with pytest.raises(ValueError, match="test_path, or data.test_fraction"):
        MetaMath(path).problems("test")


def test_splitting_by_row_would_be_noticed(fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the test above catches a split that ignores the original question."""
    monkeypatch.setattr(MetaMath, "aliases", {**MetaMath.aliases, "group": ()})
    splits = whole(MetaMath(str(fixtures / "metamath"), val_fraction=0.3, test_fraction=0.3))
    originals = [{problem.metadata["original_question"] for problem in problems} for problems in splits.values()]
    assert sum(map(len, originals)) > len(set.union(*originals))


def test_math_folder_and_repacked(fixtures: Path) -> None:
    data = Math(str(fixtures / "math"), val_fraction=0)
    assert {problem.id: problem.answer for problem in data.problems("train")} == {
        "math/train/algebra/1": "3",
        "math/train/algebra/10": "\\frac{1}{2}",
        "math/train/number_theory/2": "3",
    }
    assert [problem.answer for problem in data.problems("test")] == ["4"]
    assert data.problems("train")[0].metadata == {"level": "Level 1", "type": "Algebra"}
    repacked = Math(str(fixtures / "math"), test_path=str(fixtures / "math" / "repacked.jsonl")).problems("test")
    assert [(problem.id, problem.answer) for problem in repacked] == [
        ("math/test/test/prealgebra/3.json", "2"),
        ("math/test/test/prealgebra/4.json", "3"),
    ]
    assert repacked[1].solutions == ()
    assert repacked[0].metadata["type"] == "Prealgebra"


def test_trl_columns_and_mapped_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "1+1?", "completion": "#### 2", "q": "2+2?", "s": "Four. #### 4", "extra": [1]}\n')
    trl = GSM8K(str(path), val_fraction=0).problems("train")[0]
    assert (trl.prompt, trl.answer) == ("Question: 1+1?\nAnswer:\n", "2")
    mapped = GSM8K(str(path), val_fraction=0, columns={"question": "q", "solution": "s"}).problems("train")[0]
    assert (mapped.prompt, mapped.answer, mapped.metadata["extra"]) == ("Question: 2+2?\nAnswer:\n", "4", [1])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"answer": "#### 1"}', r"rows\.jsonl:2: field 'question or query or prompt': missing; the row has answer"),
        ('{"question": "a?", "answer": "one"}', r"rows\.jsonl:2: field 'answer': no final answer: expected .*####"),
        ('{"question": "a?"}', r"rows\.jsonl:2: field 'solution': no final answer"),
        ('{"question": "", "answer": "#### 1"}', r"rows\.jsonl:2: field 'question': expected text, found ''"),
        (
            '{"question": ["a?"], "answer": "#### 1"}',
            r"rows\.jsonl:2: field 'question': expected text, found \['a\?'\]",
        ),
        ('{"question": "a?", ', r"rows\.jsonl:2: not a line of JSON"),
    ],
)
def test_bad_rows_name_file_line_and_field(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "b?", "answer": "#### 2"}\n' + row + "\n")
    with pytest.raises(ValueError, match=message + ".* set data.on_bad_row to skip"):
        GSM8K(str(path)).problems("train")
    data = GSM8K(str(path), on_bad_row="skip", val_fraction=0)
    with pytest.warns(UserWarning, match=r"skipped 1 of 2 rows"):
        assert [problem.id for problem in data.problems("train")] == ["gsm8k/train/0"]
    assert data.num_skipped == {"train": 1}


def test_all_rows_bad_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": 1}\n')
    with pytest.raises(ValueError, match="no usable row among the 1"):
        GSM8K(str(path), on_bad_row="skip").problems("train")
    path.write_text("")
    with pytest.raises(ValueError, match="the file is empty"):
        GSM8K(str(path)).problems("train")


def test_the_seed_does_not_move_problems_between_splits(fixtures: Path) -> None:
    def ids(seed: int) -> list[str]:
        return [problem.id for problem in GSM8K(str(fixtures / "gsm8k"), val_fraction=0.5, seed=seed).problems("val")]

    assert ids(0) == ids(1)


def test_missing_files_fail_at_construction(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.path: ./nowhere does not exist"):
        GSM8K("./nowhere")
    with pytest.raises(FileNotFoundError, match=r"data\.test_path"):
        MetaMath("org/name", test_path="no.jsonl")
    with pytest.raises(FileNotFoundError, match="neither train.jsonl"):
        GSM8K(str(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"columns": {"questoin": "q"}},
        {"val_fraction": 1.0},
        {"prompt_template": "no place"},
        {"batch_size": 0},
        {"max_train": 0},
    ],
)
def test_impossible_options_fail_at_construction(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="data\\."):
        GSM8K(**settings)


def test_hub_source(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"{i}+0?", "answer": f"#### {i}"} for i in range(50)]
    calls = []

    def load_dataset(name: str, config: str | None) -> dict[str, list[dict[str, str]]]:
        calls.append((name, config))
        if name != "openai/gsm8k":
            raise ConnectionError("offline")
        return {"train": rows[:40], "test": rows[40:]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    data = GSM8K(max_test=3)
    assert calls == []
    data.prepare_data()
    assert calls == [("openai/gsm8k", "main")]
    assert len(data.problems("train")) + len(data.problems("val")) == 40
    assert len(data.problems("test")) == 3
    with pytest.raises(FileNotFoundError, match="neither a local file or folder nor a data set"):
        GSM8K("openai/absent").prepare_data()
    rows[45]["answer"] = "none"
    with pytest.raises(ValueError, match=r"openai/gsm8k\[test\]:6: field 'answer'"):
        GSM8K().problems("test")
