"""A user's function as a class map: paths, columns, results and their errors."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.solution_classes import FunctionClasses
from lightning_gfn.types import Problem

PROBLEM = Problem("p", "2 + 3?", answer="5", metadata={"level": 2})


def by_length(completions: list[str], level: list[int]) -> list[str]:
    return [f"{level[i]}/{len(text)}" for i, text in enumerate(completions)]


def everything(completions: list[str], **columns: Any) -> list[str]:
    return [f"{sorted(columns)} {columns['prompts'][0]} {columns['answer'][0]} {columns['id'][0]}"] * len(completions)


class Parity:
    def __call__(self, completions: list[str]) -> list[int | None]:
        return [len(text) % 2 if text else None for text in completions]


def test_columns_and_labels() -> None:
    assert FunctionClasses(by_length).labels(PROBLEM, ["a", "bc"]) == ["2/1", "2/2"]
    assert FunctionClasses(everything).labels(PROBLEM, ["a"]) == ["['answer', 'id', 'level', 'prompts'] 2 + 3? 5 p"]
    assert FunctionClasses(Parity).labels(PROBLEM, ["a", "bc", ""]) == ["1", "0", None]
    assert FunctionClasses(by_length).labels(PROBLEM, []) == []


def test_by_file_and_by_module(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def first(completions):\n    return [text[:1] for text in completions]\n")
    classes = FunctionClasses(f"{file}:first", name="first_letter")
    assert classes.labels(PROBLEM, ["abc", "bcd"]) == ["a", "b"] and classes.is_pointwise
    assert classes.name == "first_letter" and classes.meaning == f"first_letter by {file}:first"
    for copy in (pickle.loads(pickle.dumps(classes)), deepcopy(classes)):
        assert copy.labels(PROBLEM, ["abc"]) == ["a"]
    by_module = FunctionClasses("tests.solution_classes.test_function.by_length", pointwise=False)
    assert by_module.labels(PROBLEM, ["a"]) == ["2/1"] and by_module.name == "by_length"
    assert not by_module.is_pointwise


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ("ab", TypeError, "class function 'given' must return a list of labels, got str"),
        (None, TypeError, "got NoneType"),
        (["a"], ValueError, "'given' returned 1 labels for 2 completions"),
        (["a", ["b"]], TypeError, r"returned a label \['b'\]: return texts, numbers or None"),
    ],
)
def test_wrong_results_are_named(result: Any, error: type[Exception], message: str) -> None:
    def given(completions: list[str]) -> Any:
        return result

    with pytest.raises(error, match=message):
        FunctionClasses(given).labels(PROBLEM, ["a", "b"])


def test_wrong_functions_are_named() -> None:
    with pytest.raises(TypeError, match="class function '<lambda>' must take an argument named 'completions'"):
        FunctionClasses(lambda texts: texts)
    with pytest.raises(TypeError, match=r"class function 'by_length'.*'level'; the data give \['completions'\]"):
        FunctionClasses(by_length).labels(Problem("q", "?"), ["a"])
    with pytest.raises(ValueError, match="write package.module.f or path/to/file.py:f"):
        FunctionClasses("f")
    with pytest.raises(ValueError, match="give FunctionClasses a name of letters, digits"):
        FunctionClasses(lambda completions: completions)
