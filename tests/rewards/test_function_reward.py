from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.types import Problem

PROBLEMS = [
    Problem("p0", "Q0?", answer="4", metadata={"level": 1, "type": "algebra"}),
    Problem("p1", "Q1?", answer="5", metadata={"level": 2}),
]
TEXTS = ["ab", "abcd", "x"]
OWNERS = [0, 1, 1]

USER_FILE = '''
from dataclasses import dataclass


def brevity(completions, **kwargs):
    """As TRL users write them."""
    return [-float(len(text)) for text in completions]


@dataclass
class Bonus:
    value: float = 2.0

    def __call__(self, completions, answer):
        return [self.value if right in text else 0.0 for text, right in zip(completions, answer)]


not_callable = 3
'''


@pytest.fixture
def rollouts(make_rollouts):
    return make_rollouts(PROBLEMS, TEXTS, OWNERS)


def test_columns_reach_the_function_as_lists(rollouts, policy) -> None:
    seen: dict[str, Any] = {}

    def record(completions, prompts, **columns):
        seen.update(columns, completions=completions, prompts=prompts)
        return [1, 2.5, True]

    terms, correct_B = FunctionReward(record).terms(rollouts, policy, prefixes=False)
    assert terms["record"].tolist() == [1.0, 2.5, 1.0] and correct_B is None
    assert seen == {
        "completions": TEXTS,
        "prompts": ["Q0?", "Q1?", "Q1?"],
        "answer": ["4", "5", "5"],
        "id": ["p0", "p1", "p1"],
        "completion_ids": rollouts.action_lists(),
        "level": [1, 2, 2],
        "type": ["algebra", None, None],
    }


def test_a_function_gets_only_what_it_names(rollouts, policy) -> None:
    terms, _ = FunctionReward(lambda completions, level: [float(value) for value in level]).terms(
        rollouts, policy, prefixes=False
    )
    assert next(iter(terms.values())).tolist() == [1.0, 2.0, 2.0]


def test_reserved_columns_are_not_shadowed_by_metadata(make_rollouts, policy) -> None:
    problem = Problem("p0", "Q", answer="4", metadata={"answer": "raw", "completions": "raw", "id": "raw"})

    def check(completions, answer, id):
        return [float((completions, answer, id) == (["ab"], ["4"], ["p0"]))]

    terms, _ = FunctionReward(check).terms(make_rollouts([problem], ["ab"]), policy, prefixes=False)
    assert terms["check"].tolist() == [1.0]


@pytest.mark.parametrize(
    "result", [[1.0, None, 3.0], (1.0, 0.0, 3.0), numpy.array([1.0, 0.0, 3.0]), torch.tensor([1.0, 0.0, 3.0])]
)
def test_none_counts_as_zero_and_arrays_are_fine(result, rollouts, policy) -> None:
    reward = FunctionReward(lambda completions, **kwargs: result)
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    assert reward.combine(terms, rollouts, optimizer_step=0).terminal_B.tolist() == [1.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        ([1.0], ValueError, "returned 1 values for 3 completions"),
        (1.0, TypeError, "must return a list of floats, got float"),
        ("abc", TypeError, "must return a list of floats, got str"),
        (None, TypeError, "got NoneType"),
        ([1.0, "2.0", 3.0], TypeError, "'2.0' of type str for completion 1"),
        ([1.0, [2.0], 3.0], TypeError, "of type list for completion 1"),
        ([1.0, 2.0, float("nan")], ValueError, "nan for completion 2 (problem 'p1'); log rewards must be finite"),
        ([-float("inf"), 2.0, 1.0], ValueError, "-inf for completion 0"),
    ],
)
def test_a_wrong_result_names_the_function(result, error, words, rollouts, policy) -> None:
    def scorer(completions, **kwargs):
        return result

    with pytest.raises(error, match="'scorer' .*" + re.escape(words)):
        FunctionReward(scorer).terms(rollouts, policy, prefixes=False)


def test_arguments_that_cannot_be_given(rollouts, policy) -> None:
    with pytest.raises(TypeError, match="'by_text' must take an argument named 'completions'"):

        def by_text(texts):
            return texts

        FunctionReward(by_text)

    def by_topic(completions, topic):
        return completions

    with pytest.raises(TypeError, match=r"'by_topic'.*'topic'; the data give \[.*metadata"):
        FunctionReward(by_topic).terms(rollouts, policy, prefixes=False)


def test_an_error_inside_the_function_is_its_own(rollouts, policy) -> None:
    def broken(completions, **kwargs):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        FunctionReward(broken).terms(rollouts, policy, prefixes=False)


def test_functions_and_classes_by_file_and_by_dotted_path(tmp_path: Path, rollouts, policy, monkeypatch) -> None:
    file = tmp_path / "my_rewards.py"
    file.write_text(USER_FILE)
    terms, _ = FunctionReward(f"{file}:brevity").terms(rollouts, policy, prefixes=False)
    assert terms["brevity"].tolist() == [-2.0, -4.0, -1.0]
    monkeypatch.chdir(tmp_path)
    assert FunctionReward("my_rewards.py:brevity").name == "brevity"
    terms, _ = FunctionReward("my_rewards.py:Bonus").terms(rollouts, policy, prefixes=False)
    assert terms["Bonus"].tolist() == [0.0, 0.0, 0.0]
    monkeypatch.syspath_prepend(tmp_path)
    assert FunctionReward("my_rewards.brevity").name == "brevity"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_package.f", "No module named 'no_such_package'.*path/to/file.py:f"),
        ("missing.py:f", "'missing.py' does not exist"),
        ("brevity", "write package.module.f or path/to/file.py:f"),
        ("json.no_such_function", "'json' has no function or class 'no_such_function'"),
        ("my_rewards.py:not_callable", "has no function or class 'not_callable'"),
    ],
)
def test_a_wrong_path_fails_at_construction(path, words, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_rewards.py").write_text(USER_FILE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        FunctionReward(path)


def test_prefix_values_come_from_one_call_on_every_prefix_text(rollouts, policy) -> None:
    calls = []

    def length(completions, answer):
        calls.append((completions, answer))
        return [len(text) + 10.0 * int(right) for text, right in zip(completions, answer, strict=True)]

    reward = FunctionReward(length, prefixes=True)
    assert "log_reward_BT1" in reward.provides and "log_reward_BT1" not in FunctionReward(length).provides
    terms, _ = reward.terms(rollouts, policy, prefixes=True)
    assert terms["length"].tolist() == [[40, 41, 42, 42, 42], [50, 51, 52, 53, 54], [50, 51, 51, 51, 51]]
    assert len(calls) == 1 and calls[0][0][:4] == ["", "a", "ab", ""]
    log_reward = reward.combine(terms, rollouts, optimizer_step=0)
    assert log_reward.terminal_B.tolist() == [42, 54, 51]
    assert reward.terms(rollouts, policy, prefixes=False)[0]["length"].tolist() == [42, 54, 51]


def test_prefix_values_must_be_switched_on(rollouts, policy) -> None:
    with pytest.raises(ValueError, match="prefixes: true"):
        FunctionReward(lambda completions: [0.0]).terms(rollouts, policy, prefixes=True)
