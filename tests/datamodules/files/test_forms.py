"""Rows in the forms of TRL, verl and chat data, as they are: what is read, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.files.problem_file import ProblemFile
from datamodules.gsm8k import GSM8K
from datamodules.math import Math
from datamodules.metamath import MetaMath
from datamodules.step_labels import OutcomeRows, PairRows, StepwiseRows
from lightning_gfn.prompts.chat import ChatPrompt
from lightning_gfn.types import Problem

USER, SYSTEM = {"role": "user", "content": "2 * 6?"}, {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "2 * 6 = 12\nThe answer is: 12"}
VERL = {
    "data_source": "mine",
    "prompt": [USER],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "12"},
    "extra_info": {"split": "train", "index": 3},
}
FIRST = "The answer is: 12"


def read(tmp_path: Path, *rows: Any, kind: Any = ProblemFile, **settings: Any) -> list[Problem]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return kind(str(path), val_fraction=0, **settings).problems("train")


FORMS: dict[str, tuple[dict[str, Any], Any, tuple[str, ...], str | None]] = {
    "messages": ({"messages": [SYSTEM, USER, ANSWER]}, [SYSTEM, USER], (ANSWER["content"],), "12"),
    "several turns": (
        {"messages": [USER, ANSWER, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": FIRST}]},
        [USER, ANSWER, {"role": "user", "content": "Sure?"}],
        (FIRST,),
        "12",
    ),
    "messages without an answer": ({"messages": [USER], "answer": 12}, [USER], (), "12"),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "2 * 6?"}, {"from": "gpt", "value": FIRST}]},
        [USER],
        (FIRST,),
        "12",
    ),
    "content in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 * 6?"}]}, ANSWER]},
        [USER],
        (ANSWER["content"],),
        "12",
    ),
    "TRL text": ({"prompt": "2 * 6?", "completion": FIRST}, "2 * 6?\n", (FIRST,), "12"),
    "TRL conversational": ({"prompt": [USER], "completion": [ANSWER]}, [USER], (ANSWER["content"],), "12"),
    "TRL prompt alone": ({"prompt": [USER], "level": 2}, [USER], (), None),
    "verl": (VERL, [USER], (), "12"),
    "empty columns": ({"question": None, "prompt": "2 * 6?", "solution": None, "answer": "12"}, "2 * 6?\n", (), "12"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form(form: tuple[Any, ...], tmp_path: Path) -> None:
    row, prompt, solutions, answer = form
    (problem,) = read(tmp_path, row)
    found = problem.prompt.dicts() if isinstance(problem.prompt, ChatPrompt) else problem.prompt
    assert (found, problem.solutions, problem.answer) == (prompt, solutions, answer)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_nested_columns_survive_their_container(suffix: str, tmp_path: Path) -> None:
    import csv

    import pyarrow
    import pyarrow.parquet

    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([VERL, VERL]), path)
    else:
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([["messages", "level"], [json.dumps([USER, ANSWER]), "3"]])
    problem = ProblemFile(str(path), val_fraction=0).problems("train")[0]
    assert isinstance(problem.prompt, ChatPrompt) and problem.prompt.dicts() == [USER] and problem.answer == "12"
    assert problem.metadata == (
        {"level": "3"} if suffix == ".csv" else {k: v for k, v in VERL.items() if k != "prompt"}
    )


@pytest.mark.parametrize("kind", [GSM8K, Math, MetaMath])
def test_the_known_data_sets_read_them_too(kind: Any, tmp_path: Path) -> None:
    answers = {GSM8K: "#### 12", Math: "\\boxed{12}", MetaMath: "The answer is: 12"}
    chat = {"messages": [USER, {"role": "assistant", "content": answers[kind]}]}
    for row, solutions in ((VERL, ()), (chat, (answers[kind],))):
        (problem,) = read(tmp_path, row, kind=kind)
        assert isinstance(problem.prompt, ChatPrompt) and problem.prompt.dicts() == [USER]
        assert (problem.solutions, problem.answer) == (solutions, "12")


def test_the_chat_setting(tmp_path: Path) -> None:
    rows = {"messages": [USER, ANSWER]}, {"question": "7?", "answer": "7"}
    template = {"prompt_template": "Q: {question}"}

    def prompts(**settings: Any) -> list[Any]:
        found = [problem.prompt for problem in read(tmp_path, *rows, **template, **settings)]
        return [prompt.dicts() if isinstance(prompt, ChatPrompt) else prompt for prompt in found]

    filled = {"role": "user", "content": "Q: 7?"}
    assert prompts() == [[USER], "Q: 7?"]
    assert prompts(chat="off") == ["Q: 2 * 6?", "Q: 7?"]
    assert prompts(chat="on") == [[USER], [filled]]
    assert prompts(chat="on", system_prompt="Be brief.") == [[SYSTEM, USER], [SYSTEM, filled]]
    other = {"role": "system", "content": "Own."}
    (kept,) = read(tmp_path, {"messages": [other, USER, ANSWER]}, chat="on", system_prompt="Be brief.")
    assert isinstance(kept.prompt, ChatPrompt) and kept.prompt.dicts() == [other, USER]
    for wrong in ({"chat": "yes"}, {"system_prompt": "a"}, {"chat": "on", "system_prompt": " "}):
        with pytest.raises(ValueError, match=r"data\.(chat|system_prompt)"):
            prompts(**wrong)


def test_columns_are_stated_and_configurable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        read(tmp_path, VERL, VERL, {"question": "1?", "final_answer": "1", "level": 2})
    assert (
        "3 train rows: question from 'prompt', answer from 'reward_model.ground_truth' (2 rows); question from "
        "'question', answer from 'final_answer' (1 rows); further columns: data_source, ability, reward_model, "
        "extra_info, level"
    ) in caplog.text
    row = {"chat": [USER, ANSWER], "messages": [SYSTEM], "meta": {"gold": {"value": 13}}}
    columns = {"messages": "chat", "answer": "meta.gold.value"}
    (problem,) = read(tmp_path, row, columns=columns)
    assert problem.answer == "13" and problem.prompt == "2 * 6?" and problem.solutions == (ANSWER["content"],)


FAULTS = {
    "missing": ({"q": "a"}, {}, "field 'question or problem or .*': missing; the row has q"),
    "wrong name": ({"q": "a", "n": 1}, {"columns": {"question": "qu"}}, "field 'qu': missing; the row has n, q"),
    "wrong messages": ({"q": "a"}, {"columns": {"messages": "m"}}, "field 'm': missing; the row has q"),
    "wrong inner name": (
        {"q": "a", "meta": {"b": 1}},
        {"columns": {"question": "meta.q"}},
        "field 'meta.q': missing; the row has meta, q",
    ),
    "empty question": ({"prompt": " ", "answer": "1"}, {}, "field 'prompt': expected text, found ' '"),
    "empty message": ({"prompt": [{"role": "user", "content": " "}]}, {}, "field 'prompt': message 1 has no visible"),
    "no message": (
        {"messages": []},
        {"columns": {"messages": "messages"}},
        "field 'messages': the conversation has no",
    ),
    "role": ({"messages": [USER, {"role": "bot<|im_end|>", "content": "a"}]}, {}, "message 2 has the role 'bot"),
    "no text": (
        {"messages": [USER, {"role": "assistant", "content": None}]},
        {},
        "field 'messages': expected messages",
    ),
    "picture": (
        {"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]},
        {},
        "message 1 has a part that is no text",
    ),
    "answer alone": ({"messages": [ANSWER]}, {}, "field 'messages': .*there is no prompt"),
    "no user": ({"prompt": [SYSTEM]}, {}, "field 'prompt': the prompt has no message of the user"),
    "two answers": (
        {"prompt": [USER], "completion": [ANSWER, ANSWER]},
        {},
        "field 'completion': expected one assistant",
    ),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_faults_name_file_line_and_field(case: tuple[Any, Any, str], tmp_path: Path) -> None:
    row, settings, message = case
    with pytest.raises(ValueError, match=rf"rows\.jsonl:1: .*{message}"):
        read(tmp_path, row, **settings)


def test_judged_rows_take_conversations(tmp_path: Path) -> None:
    other = {"role": "assistant", "content": "13"}
    stepwise = {"prompt": [USER], "completions": ["a", "b"], "labels": [True, False]}
    rows = {
        StepwiseRows: stepwise,
        OutcomeRows: {"prompt": [USER], "completion": "12", "label": True},
        PairRows: {"prompt": [USER], "chosen": [ANSWER], "rejected": [other]},
    }
    for kind, row in rows.items():
        (found,) = read(tmp_path, row, kind=kind, test_fraction=0)
        assert isinstance(found.prompt, ChatPrompt) and found.prompt.dicts() == [USER]
    pair: Any
    (pair,) = read(tmp_path, {"chosen": [USER, ANSWER], "rejected": [USER, other]}, kind=PairRows, test_fraction=0)
    assert pair.prompt.dicts() == [USER] and (pair.chosen, pair.rejected) == (ANSWER["content"], "13")
