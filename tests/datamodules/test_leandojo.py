"""LeanDojo Benchmark 4: forms of files, chains, regimes, filters, premises, bad rows named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.common.theorem_rows import TracedTactic, histories, whole_script
from datamodules.leandojo import LeanDojoBenchmark4, read_corpus
from lightning_gfn.lean_types import Location
from lightning_gfn.prompts.proof_prompt import ProofPrompt


def step(tactic: str, before: str, after: str, premises: tuple[str, ...] = ()) -> dict[str, Any]:
    used = [{"full_name": name, "def_path": "A.lean", "def_pos": [1, 1], "def_end_pos": [1, 2]} for name in premises]
    return {"tactic": tactic, "annotated_tactic": [tactic, used], "state_before": before, "state_after": after}


def theorem(name: str = "Nat.foo", tactics: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    steps = [
        step("rw [<a>foo</a>]", "n : ℕ\n⊢ n + 0 = n", "n : ℕ\n⊢ n = n", ("Nat.foo_zero",)),
        step("rfl", "n : ℕ\n⊢ n = n", "no goals"),
    ]
    place = {"url": "https://example.org/r", "commit": "0" * 40, "file_path": "A.lean"}
    return {**place, "full_name": name, "traced_tactics": steps if tactics is None else tactics, **more}


BROKEN = [step("constructor", "⊢ p ∧ q", "⊢ p\n\n⊢ q"), step("exact hq", "⊢ q", "no goals")]


def write(folder: Path, train: Any, name: str = "train.json") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(train, ensure_ascii=False), encoding="utf-8")
    return str(folder)


def test_a_theorem_becomes_a_problem(tmp_path: Path) -> None:
    (problem,) = LeanDojoBenchmark4(write(tmp_path, [theorem()])).problems("train")
    assert problem.theorem is not None
    assert problem.prompt == "n : ℕ\n⊢ n + 0 = n\n--\n"
    assert problem.solutions == ("rw [foo]\nrfl",) and problem.theorem.proofs == (("rw [foo]", "rfl"),)
    assert problem.theorem.location == Location("https://example.org/r", "0" * 40, "A.lean", "Nat.foo")
    assert problem.metadata["num_tactics"] == 2


def test_in_the_other_regime_each_tactic_is_a_problem(tmp_path: Path) -> None:
    first, second = LeanDojoBenchmark4(write(tmp_path, [theorem()]), train_on="tactics").problems("train")
    assert (first.prompt, first.solutions, first.theorem) == ("n : ℕ\n⊢ n + 0 = n\n--\n", ("rw [foo]",), None)
    assert (second.prompt, second.solutions) == ("n : ℕ\n⊢ n = n\n--\nrw [foo]\n--\n", ("rfl",))


def test_prediction_and_validation_are_of_theorems(tmp_path: Path) -> None:
    write(tmp_path, [theorem("Nat.bar")], "val.json")
    data = LeanDojoBenchmark4(write(tmp_path, [theorem()]), train_on="tactics", predict_split="train")
    data.setup("predict")
    assert [problem.theorem is not None for batch in data.predict_dataloader() for problem in batch] == [True]
    assert len(data.problems("train")) == 2
    assert [problem.theorem is not None for problem in data.problems("val")] == [True]
    losses = LeanDojoBenchmark4(str(tmp_path), evaluate_on="tactics")
    assert [problem.solutions for problem in losses.problems("val")] == [("rw [foo]",), ("rfl",)]


def test_an_object_keyed_by_index_is_the_same_as_a_list(tmp_path: Path) -> None:
    rows = {"7": theorem(entry_time=1.5, entry_failed=False), "12": theorem("Nat.bar", formal_statement=": True")}
    problems = LeanDojoBenchmark4(write(tmp_path, rows)).problems("train")
    assert [problem.id for problem in problems] == ["leandojo/train/7", "leandojo/train/12"]
    assert problems[0].metadata["entry_time"] == 1.5 and problems[1].metadata["formal_statement"] == ": True"


def test_both_ways_of_splitting(tmp_path: Path) -> None:
    write(tmp_path / "random", [theorem("Nat.random")])
    write(tmp_path / "novel_premises", [theorem("Nat.novel")])
    for split, name in (("random", "Nat.random"), ("novel_premises", "Nat.novel")):
        (problem,) = LeanDojoBenchmark4(str(tmp_path), split=split).problems("train")  # type: ignore[arg-type]
        assert problem.theorem is not None and problem.theorem.name == name


def test_broken_chains(tmp_path: Path) -> None:
    path = write(tmp_path, [theorem(tactics=BROKEN)])
    kept = LeanDojoBenchmark4(path, train_on="tactics").problems("train")
    assert [problem.prompt for problem in kept] == ["⊢ p ∧ q\n--\n", "⊢ q\n--\n"]
    (dropped,) = LeanDojoBenchmark4(path, train_on="tactics", broken_chains="drop").problems("train")
    assert dropped.solutions == ("constructor",)
    (whole,) = LeanDojoBenchmark4(path).problems("train")
    assert whole.theorem is not None and whole.theorem.proofs == () and whole.solutions == ()


def test_a_chain_stays_broken_behind_the_break() -> None:
    trace = [TracedTactic("a", "1", "2"), TracedTactic("b", "3", "4"), TracedTactic("c", "4", "no goals")]
    assert histories(trace) == [(), None, None] and whole_script(trace) is None
    assert whole_script(trace[1:]) == ("b", "c") and whole_script(trace[1:2]) is None and whole_script([]) is None


def test_states_and_histories_are_cut(tmp_path: Path) -> None:
    prompt = ProofPrompt(max_state_chars=5, max_history_chars=4)
    data = LeanDojoBenchmark4(write(tmp_path, [theorem()]), train_on="tactics", prompt=prompt)
    assert data.problems("train")[1].prompt == "n : ℕ\n--\nfoo]\n--\n"


@pytest.mark.parametrize(
    ("option", "rows"),
    [
        ({"max_steps": 1}, theorem()),
        ({"max_state": 16}, theorem()),
        ({"max_tactic": 7}, theorem()),
        ({"max_state": 19, "unit": "bytes"}, theorem()),
        ({"max_entry_seconds": 5}, theorem(entry_time=5.5)),
        ({"max_entry_seconds": 5}, theorem(entry_time=None, entry_failed=True)),
        ({"tactic_only": True}, theorem(tactics=[])),
        ({"tactic_only": True}, theorem(is_tactic_proof=False)),
    ],
)
def test_filters_count_what_they_leave_out(tmp_path: Path, option: dict[str, Any], rows: Any) -> None:
    data = LeanDojoBenchmark4(write(tmp_path, [rows]), **option)
    assert data.load_theorems("train") == []
    assert data.num_filtered["train"] == {next(iter(option)): 1}


@pytest.mark.parametrize(
    "option",
    [
        {"max_steps": 2},
        {"max_state": 17},
        {"max_tactic": 8},
        {"max_state": 21, "unit": "bytes"},
        {"max_entry_seconds": 5},
    ],
)
def test_filters_let_pass_what_keeps_to_them(tmp_path: Path, option: dict[str, Any]) -> None:
    rows = [theorem(entry_time=5.0), theorem("Nat.bar")]
    assert len(LeanDojoBenchmark4(write(tmp_path, rows), **option).problems("train")) == 2


def test_premises_stand_before_the_state(tmp_path: Path) -> None:
    path = write(tmp_path, [theorem()])
    named = LeanDojoBenchmark4(path, train_on="tactics", premises="names").problems("train")
    assert named[0].prompt == "<a>Nat.foo_zero</a>\n\nn : ℕ\n⊢ n + 0 = n\n--\n"
    assert named[1].prompt.startswith("n : ℕ")
    short = LeanDojoBenchmark4(path, train_on="tactics", premises="names", max_premise_chars=10).problems("train")
    assert short[0].prompt.startswith("n : ℕ")
    with pytest.raises(FileNotFoundError, match=r"corpus.jsonl: give data.corpus_path"):
        LeanDojoBenchmark4(path, premises="code")
    line = {
        "path": "A.lean",
        "imports": [],
        "premises": [{"full_name": "Nat.foo_zero", "code": "theorem foo_zero : 1"}],
    }
    (tmp_path / "corpus.jsonl").write_text(json.dumps(line) + "\n")
    coded = LeanDojoBenchmark4(path, train_on="tactics", premises="code").problems("train")
    assert coded[0].prompt.startswith("theorem <a>Nat.foo_zero</a> : 1\n\nn : ℕ")


def test_a_broken_corpus_is_named(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"premises": []}\n{"premises": [{"full_name": "a"}]}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:2: .*KeyError\('code'\)"):
        read_corpus(tmp_path / "corpus.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (theorem(traced_tactics=None), "field 'traced_tactics': missing"),
        (theorem(traced_tactics="rfl"), "field 'traced_tactics': expected a list, found 'rfl'"),
        (theorem(tactics=[{"tactic": "rfl"}]), r"field 'traced_tactics\[0\].state_before': missing"),
        (theorem(tactics=[step("", "a", "b")]), r"field 'traced_tactics\[0\].tactic': expected text, found ''"),
        (theorem(tactics=[{**step("a", "b", "c"), "annotated_tactic": "x"}]), r"traced_tactics\[0\].annotated_tactic'"),
        (theorem(tactics=["rfl"]), r"field 'traced_tactics\[0\]': expected an object"),
        (theorem(full_name=3), "field 'full_name': expected text, found 3"),
        (theorem(commit=None), "field 'commit': missing"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path, {"4": theorem(), "9": row})
    with pytest.raises(ValueError, match=rf"train.json: theorem 9: .*{message}"):
        LeanDojoBenchmark4(path).problems("train")
    skipping = LeanDojoBenchmark4(path, on_bad_row="skip")
    with pytest.warns(UserWarning, match="skipped 1 rows"):
        assert len(skipping.problems("train")) == 1
    assert skipping.num_skipped == {"train": 1}


def test_rows_of_lists_are_named_by_line_and_index(tmp_path: Path) -> None:
    path = write(tmp_path, [theorem(), theorem(full_name="")])
    with pytest.raises(ValueError, match=r"train.json:1: theorem 1: field 'full_name'"):
        LeanDojoBenchmark4(path).problems("train")


def test_missing_splits(tmp_path: Path) -> None:
    data = LeanDojoBenchmark4(write(tmp_path, [theorem()]))
    assert data.problems("val") == []
    with pytest.raises(ValueError, match="no test rows, only .*set data.test_path"):
        data.problems("test")
    with pytest.raises(FileNotFoundError, match="neither train.json"):
        LeanDojoBenchmark4(write(tmp_path / "other", [], "else.json"))


@pytest.mark.parametrize("option", [{"train_on": "steps"}, {"broken_chains": "keep"}, {"max_train_theorems": 0}])
def test_options_that_make_no_sense(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"data.{next(iter(option))} is"):
        LeanDojoBenchmark4(write(tmp_path, [theorem()]), **option)


def test_the_limit_of_theorems_is_the_same_in_both_regimes(tmp_path: Path) -> None:
    path = write(tmp_path, [theorem(f"Nat.t{i}") for i in range(10)])
    whole = LeanDojoBenchmark4(path, max_train_theorems=4).problems("train")
    tactics = LeanDojoBenchmark4(path, max_train_theorems=4, train_on="tactics").problems("train")
    assert len(whole) == 4 and len(tactics) == 8
    assert {problem.id for problem in whole} == {problem.id.rsplit("/", 2)[0] for problem in tactics}


def test_the_real_rows_load(shared_data: Path) -> None:
    path = str(shared_data / "leandojo_bm4_sample")
    data = LeanDojoBenchmark4(path)
    assert len(data.problems("train")) == 800 and len(data.problems("val")) == 20
    whole = [problem for problem in data.problems("train") if problem.solutions]
    assert len(whole) == 554 and all("<a>" not in problem.solutions[0] for problem in whole)
    tactics = LeanDojoBenchmark4(path, train_on="tactics").problems("train")
    chained = LeanDojoBenchmark4(path, train_on="tactics", broken_chains="drop").problems("train")
    assert (len(tactics), len(chained)) == (2260, 1816)
    assert LeanDojoBenchmark4(path, max_state=200, unit="bytes").problems("train") != data.problems("train")
