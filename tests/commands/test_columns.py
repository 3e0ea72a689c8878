"""Which column is what: files as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.files.problem_file import ProblemFile
from lightning_gfn.commands.asking.columns import guess, guess_style
from lightning_gfn.commands.asking.file_rows import column_settings, guess_file

ASKS = ("How many apples are left in the basket?", "How many pens are in the three boxes?", "How old is Ida now?")
WORK = ("5 - 2 = 3\n#### 3", "3 * 4 = 12\n#### 12", "4 + 5 = 9\n#### 9")
TALK = [{"role": "user", "content": ASKS[0]}, {"role": "assistant", "content": WORK[0]}]


def rows(**columns: Any) -> list[dict[str, Any]]:
    """Three rows of these columns; a value that is no tuple stands in each."""
    return [
        {name: values[i] if isinstance(values, tuple) else values for name, values in columns.items()} for i in range(3)
    ]


@pytest.mark.parametrize(
    ("table", "kind", "columns", "unsure"),
    [
        (rows(question=ASKS, answer=WORK), "problems", {"question": "question", "solution": "answer"}, {"solution"}),
        (rows(task=ASKS, gold=("3", "12", "9")), "problems", {"question": "task", "answer": "gold"}, set()),
        (rows(id=(1, 2, 3), Problem=ASKS, Answer=(3, 12, 9)), "problems",
         {"question": "Problem", "answer": "Answer"}, set()),
        (rows(nr=("x", "y", "z"), frage=ASKS, zahl=("3", "12", "9")), "problems",
         {"question": "frage", "answer": "zahl"}, {"question", "answer"}),
        (rows(place=("7", "8", "9"), frage=ASKS, zahl=("3", "12", "9")), "problems",
         {"question": "frage", "answer": "zahl"}, {"question", "answer"}),
        (rows(**{"No.": ("1", "1", "2"), "frage": ASKS}), "problems", {"question": "frage"}, {"question"}),
        (rows(query=ASKS, response=WORK, type="GSM"), "problems", {"question": "query", "solution": "response"}, set()),
        (rows(question=ASKS, rationale=WORK, final_answer=("3", "12", "9")), "problems",
         {"question": "question", "solution": "rationale", "answer": "final_answer"}, set()),
        (rows(prompt=([TALK[0]],) * 3, completion=([TALK[1]],) * 3), "problems",
         {"question": "prompt", "solution": "completion"}, set()),
        (rows(problem=WORK, text=ASKS), "problems", {"question": "text", "solution": "problem"}, {"solution"}),
        (rows(messages=(TALK,) * 3), "messages", {"messages": "messages"}, set()),
        (rows(prompt=ASKS, chosen=WORK, rejected=WORK), "preferences",
         {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}, set()),
        (rows(prompt=ASKS, completion=WORK, label=(True, False, True)), "labels",
         {"prompt": "prompt", "completion": "completion", "label": "label"}, set()),
        (rows(name=("a", "b", "c"), statement="(p : Prop) (hp : p) : p"), "theorems",
         {"name": "name", "statement": "statement"}, set()),
    ],
)  # fmt: skip
def test_columns_are_found(table: list[dict[str, Any]], kind: str, columns: dict[str, str], unsure: set[str]) -> None:
    found = guess(table)
    assert (found.kind, dict(found.columns)) == (kind, columns)
    assert set(found.columns) - found.sure == unsure


def test_a_statement_in_words_is_no_theorem() -> None:
    assert guess(rows(statement="Every even number is a sum.", question=ASKS)).kind == "problems"


def test_what_nobody_can_guess_says_how_to_name_it() -> None:
    with pytest.raises(ValueError, match="no column looks like a question.*'a', 'b'.*--columns question=COLUMN"):
        guess(rows(a=("1", "2", "3"), b=("4", "5", "6")))
    with pytest.raises(ValueError, match="no column 'questoin': the rows have 'question'"):
        guess(rows(question=ASKS), {"question": "questoin"})


def test_theorems_in_other_forms_are_told_where_they_belong() -> None:
    with pytest.raises(ValueError, match="leandojo_sft.yaml"):
        guess(rows(url="u", full_name="A.b", traced_tactics=([],) * 3))
    with pytest.raises(ValueError, match="whole Lean declarations"):
        guess(rows(name="a", formal_statement="theorem a : True := by sorry", split="test"))


def test_named_columns_win() -> None:
    found = guess(rows(question=ASKS, task=ASKS, gold=("3", "12", "9")), {"question": "task"})
    assert found.columns == {"question": "task", "answer": "gold"} and found.why["question"] == "you named it"


@pytest.mark.parametrize(
    "table",
    [
        rows(question=ASKS, answer=WORK),
        rows(task=ASKS, gold=("3", "12", "9")),
        rows(prompt=([TALK[0]],) * 3, completion=([TALK[1]],) * 3),
        rows(messages=(TALK,) * 3),
        rows(prompt=([TALK[0]],) * 3, reward_model=({"ground_truth": "3"},) * 3, data_source="x"),
    ],
)
def test_a_data_set_reads_what_was_guessed(tmp_path: Path, table: list[dict[str, Any]]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, table)), encoding="utf-8")
    guessed, looked_at = guess_file(str(file))
    assert len(looked_at) == 3
    data = ProblemFile(str(file), columns=column_settings(guessed), answer_style="gsm8k", val_fraction=0.0)
    problems = data.problems("train")
    assert [problem.answer for problem in problems][0] == "3"
    assert all(ask in problem.prompt for ask, problem in zip(ASKS[:1], problems, strict=False))


@pytest.mark.parametrize(
    ("solutions", "answers", "style"),
    [
        (WORK, (), "gsm8k"),
        ((r"so \boxed{3}", r"so \boxed{x}"), (), "math"),
        (("It is so.\nThe answer is: 3", "Well.\nThe answer is: 4"), (), "metamath"),
        (("Well. Answer: 3", "Well. Answer: 4 apples"), (), "Answer: (.+)"),
        (("5 - 2 = 3", "3 * 4 = 12"), (), "last_number"),
        ((), ("3", "-1,200", "$4.50", "3/4"), "last_number"),
        ((), ("A", "(C)", "B"), r"[Aa]nswer(?: is)?:? *\(?([A-Ja-j])\b"),
        ((), ("Paris", "Rome"), "math"),
        (("White upon the roof",), (), "metamath"),
    ],
)
def test_the_style_of_answers_is_found(solutions: tuple[str, ...], answers: tuple[str, ...], style: str) -> None:
    assert guess_style(solutions, answers)[0] == style
