"""Lean statement files: context, replacements, plain scripts, bad rows named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.lean_text import LeanText, plain_script


def write(folder: Path, *rows: Any) -> str:
    path = folder / "made up.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return str(path)


ROW = {
    "name": "t1",
    "statement": "(n : ℕ) : n = n",
    "context": ["variable (p : Prop)"],
    "proof": "by\n  rfl",
    "world": 3,
}


def test_a_statement_becomes_a_test_theorem(tmp_path: Path) -> None:
    (problem,) = LeanText(write(tmp_path, ROW), replace={"ℕ": "Nat"}, imports=("Init", "Std")).problems("test")
    theorem = problem.theorem
    assert theorem is not None and theorem.statement == "(n : Nat) : n = n"
    assert theorem.context == ("variable (p : Prop)",) and theorem.imports == ("Init", "Std")
    assert theorem.proofs == (("rfl",),) and problem.solutions == ("rfl",)
    assert problem.prompt == "variable (p : Prop)\ntheorem made_up_0 (n : Nat) : n = n\n"
    assert problem.metadata == {"name": "t1", "world": 3}


def test_a_term_is_a_solution_without_tactics(tmp_path: Path) -> None:
    row = {"statement": ": p → p", "context": "variable (p : Prop)", "proof": "fun h => h"}
    (problem,) = LeanText(write(tmp_path, row)).problems("test")
    assert problem.theorem is not None and problem.theorem.proofs == () and problem.solutions == ("fun h => h",)
    assert problem.theorem.context == ("variable (p : Prop)",)
    (without,) = LeanText(write(tmp_path, row), proofs=False).problems("test")
    assert without.solutions == ()


def test_columns_have_other_names(tmp_path: Path) -> None:
    row = {"goal": ": True", "header": None, "by": "  trivial"}
    columns = {"statement": "goal", "context": "header", "proof": "by"}
    (problem,) = LeanText(write(tmp_path, row), columns=columns, proof_form="script").problems("test")
    assert problem.theorem is not None and problem.theorem.proofs == (("trivial",),) and problem.metadata == {}
    with pytest.raises(ValueError, match=r"unknown keys \['title'\]"):
        LeanText(write(tmp_path, row), columns={"title": "x"})


@pytest.mark.parametrize(
    ("proof", "form", "tactics"),
    [
        ("by\n  intro h -- assume it\n  exact h\n  done", "term", ("intro h", "exact h")),
        ("by rfl", "term", ("rfl",)),
        ("  rw [h]\n  rfl", "script", ("rw [h]", "rfl")),
        ("fun h => h", "term", None),
        ("by\n  constructor\n  · exact hp\n  · exact hq", "term", None),
        ("  induction n with\n  | zero => rfl\n  | succ k ih => rw [ih]", "script", None),
        ("by\n  have h : p := by\n    exact hp\n  exact h", "term", None),
        ("by intro h\n   exact h", "term", None),
        ("by\n  /- no -/\n  rfl", "term", None),
        ("by\n  sorry", "term", None),
        ("by", "term", None),
    ],
)
def test_only_plain_scripts_are_taken_apart(proof: str, form: Any, tactics: tuple[str, ...] | None) -> None:
    assert plain_script(proof, form) == tactics


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statement": None}, "field 'statement': missing"),
        ({"statement": 3}, "field 'statement': expected text, found 3"),
        ({"context": [3]}, r"field 'context': expected a text or a list of texts, found \[3\]"),
        ({"proof": 3}, "field 'proof': expected text or null, found 3"),
        ({"name": ""}, "field 'name': expected text or null, found ''"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, ROW, {**ROW, **changes})
    with pytest.raises(ValueError, match=rf"made up.jsonl:2: {message}"):
        LeanText(path).problems("test")
    skipping = LeanText(path, on_bad_row="skip")
    assert len(skipping.problems("test")) == 1 and skipping.num_skipped == 1


def test_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    data = LeanText(write(tmp_path, ROW))
    assert data.problems("val") == []
    with pytest.raises(ValueError, match="nothing to train on"):
        data.problems("train")


def test_the_real_files_load(shared_data: Path) -> None:
    files = ("lean_tpil4/exercises.jsonl", "lean_tpil4/proved.jsonl", "lean_logic_sheets/sheets1-4.jsonl")
    problems = LeanText([str(shared_data / file) for file in files]).problems("test")
    game = LeanText(str(shared_data / "lean_nng4/levels.jsonl"), replace={"ℕ": "Nat"}, proof_form="script")
    levels = game.problems("test")
    assert (len(problems), len(levels)) == (37 + 225 + 47, 48)
    assert sum(bool(problem.theorem and problem.theorem.proofs) for problem in problems) == 138
    assert not any("ℕ" in problem.prompt for problem in levels)


def test_shares_to_train_and_validate_on(tmp_path: Path) -> None:
    rows = [{"name": f"t{n}", "statement": f": {n} = {n}"} for n in range(60)] + [
        {"name": "again", "statement": ": 7  = 7"}
    ]
    data = LeanText(write(tmp_path, *rows), train_fraction=0.6, val_fraction=0.2)
    parts = {split: data.problems(split) for split in ("train", "val", "test")}
    assert all(parts.values()) and sum(map(len, parts.values())) == 61
    statements = {
        split: {" ".join(one.theorem.statement.split()) for one in part if one.theorem} for split, part in parts.items()
    }
    assert not statements["train"] & statements["test"] and not statements["train"] & statements["val"]
    assert len(parts["train"]) > len(parts["val"])


def test_shares_leave_something_to_test(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave something to test"):
        LeanText(write(tmp_path, ROW), train_fraction=0.7, val_fraction=0.3)


def test_rows_are_read_and_counted_once_for_all_splits(tmp_path: Path) -> None:
    rows = [{"name": f"t{n}", "statement": f": {n} = {n}"} for n in range(40)] + [{"name": "bad"}]
    data = LeanText(write(tmp_path, *rows), train_fraction=0.5, val_fraction=0.2, on_bad_row="skip")
    with pytest.warns(UserWarning, match="skipped 1 of 41 rows") as found:
        assert sum(len(data.problems(split)) for split in ("train", "val", "test")) == 40
    assert len(found) == 1 and data.num_skipped == 1
