"""Sampled solutions in place of the data set's own, and the problems that are sampled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.common.rows import BadRow
from datamodules.samples import SampledSolutions


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes rows and returns the name of the file."""

    def make(*rows: Any, name: str = "solutions.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return make


def test_training_problems_have_the_solutions_of_the_file(counting_data: Any, write: Any) -> None:
    path = write(
        {"problem_id": "train/4", "prompt": "4\n", "completions": ["a", "b", "a"]},
        {"problem_id": "train/2", "completions": ["c"], "more": 1},
        {"problem_id": "train/4", "completions": ["d", "b"]},
    )
    inner = counting_data(batch_size=2)
    data = SampledSolutions(inner, path=path)
    found = {problem.id: problem.solutions for problem in data.problems("train")}
    assert found == {"train/2": ("c",), "train/4": ("a", "b", "d")}
    assert [problem.prompt for problem in data.problems("train")] == ["2\n", "4\n"]
    assert data.problems("val") == inner.problems("val") and data.problems("test") == inner.problems("test")
    both = SampledSolutions(counting_data(), path=path, keep_references=True)
    assert both.problems("train")[1].solutions == (" 4", "a", "b", "d")


def test_each_completion_as_an_item(counting_data: Any, write: Any) -> None:
    path = write({"problem_id": "train/4", "completions": ["a", "b"]}, {"problem_id": "train/2", "completions": ["c"]})
    data = SampledSolutions(counting_data(), path=path, item="completion", batch_size=2)
    items = [(item.id, item.prompt, item.solutions) for item in data.problems("train")]
    assert items == [("train/2#0", "2\n", ("c",)), ("train/4#0", "4\n", ("a",)), ("train/4#1", "4\n", ("b",))]
    visited = sorted(item.id for batch in data.train_dataloader() for item in batch)
    assert visited == ["train/2#0", "train/4#0", "train/4#1"]


def test_completions_with_copies_count_several_times(counting_data: Any, write: Any) -> None:
    path = write(
        {"problem_id": "train/4", "completions": ["a", "b"], "copies": [1, 3]},
        {"problem_id": "train/4", "completions": ["b", "c"], "copies": [2, 1]},
    )
    data = SampledSolutions(counting_data(), path=path)
    assert [problem.solutions for problem in data.problems("train")] == [("a", "b", "b", "b", "c")]
    both = SampledSolutions(counting_data(), path=path, keep_references=True, item="completion")
    assert [problem.solutions[0] for problem in both.problems("train")] == [" 4", "a", "b", "b", "b", "c"]
    assert len({problem.id for problem in both.problems("train")}) == 6


@pytest.mark.parametrize("copies", [[1], [1, 0], [1, 1.5], [1, True], "11"], ids=str)
def test_wrong_copies_are_named(counting_data: Any, write: Any, copies: Any) -> None:
    path = write({"problem_id": "train/4", "completions": ["a", "b"], "copies": copies})
    with pytest.raises(BadRow, match="copies.*a whole number above 0 for each completion"):
        SampledSolutions(counting_data(), path=path).problems("train")


def test_predict_samples_all_training_problems_and_needs_no_file(counting_data: Any) -> None:
    inner = counting_data()
    data = SampledSolutions(inner, predict_split="train", eval_batch_size=4)
    data.setup("predict")
    assert [p for batch in data.predict_dataloader() for p in batch] == inner.problems("train")
    with pytest.raises(ValueError, match=r"data\.path is missing"):
        data.setup("fit")


def test_failed_problems_are_sampled_again_with_a_hint(counting_data: Any, write: Any, monkeypatch: Any) -> None:
    inner = counting_data(num_train=4)
    solved = [replace(problem, answer=f"{{prompt}}{i}") for i, problem in enumerate(inner.problems("train"))]
    monkeypatch.setattr(inner, "_loaded", {"train": solved})
    path = write({"problem_id": "train/3"}, {"problem_id": "train/1"}, name="retry.jsonl")
    data = SampledSolutions(inner, predict_split="train", retry_path=path, hint_template="({answer}) {prompt}")
    hinted = [p for batch in data.predict_dataloader() for p in batch]
    assert [(p.id, p.prompt) for p in hinted] == [("train/3", "({prompt}3) 3\n"), ("train/1", "({prompt}1) 1\n")]
    assert [p.answer for p in hinted] == ["{prompt}3", "{prompt}1"]
    unanswered = SampledSolutions(counting_data(), predict_split="train", retry_path=path)
    with pytest.raises(ValueError, match="'train/3' has no answer"):
        unanswered.setup("predict")
    for template in ("{prompt}", "{answer}", "{prompt}{prompt}{answer}"):
        with pytest.raises(ValueError, match=r"data\.hint_template"):
            SampledSolutions(inner, hint_template=template)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completions": ["a"]}, "field 'problem_id'"),
        ({"problem_id": "test/1", "completions": ["a"]}, "field 'problem_id': 'test/1' is no training problem"),
        ({"problem_id": "train/1", "prompt": "2\n", "completions": ["a"]}, "field 'prompt': differs"),
        ({"problem_id": "train/1"}, "field 'completions'"),
        ({"problem_id": "train/1", "completions": []}, "field 'completions'"),
        ({"problem_id": "train/1", "completions": "a"}, "field 'completions'"),
        ({"problem_id": "train/1", "completions": ["a", ""]}, "field 'completions'.*at place 1"),
    ],
)
def test_a_bad_row_names_file_line_and_field(row: Any, message: str, counting_data: Any, write: Any) -> None:
    path = write({"problem_id": "train/0", "completions": ["a"]}, row)
    with pytest.raises(BadRow, match=rf"solutions\.jsonl:2: {message}"):
        SampledSolutions(counting_data(), path=path).setup("fit")


def test_rows_without_a_problem_stand_for_themselves(counting_data: Any, write: Any) -> None:
    path = write({"prompt": "⊢ p", "completions": ["intro h"]}, {"problem_id": "train/2", "completions": ["c"]})
    data = SampledSolutions(counting_data(), path=path)
    assert [(p.prompt, p.solutions) for p in data.problems("train")] == [("2\n", ("c",)), ("⊢ p", ("intro h",))]
    with pytest.raises(BadRow, match="prompt"):
        SampledSolutions(counting_data(), path=write({"prompt": " ", "completions": ["h"]})).problems("train")
