"""ProofFiles: the text, names, what is saved, and that everything is checked again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lightning_gfn.callbacks.common.lean_files import comment, indented, lean_file, lean_name, unique_names
from lightning_gfn.callbacks.proof_files import ProofFiles
from lightning_gfn.callbacks.proof_search import ProofSearch
from lightning_gfn.lean_types import Episode, Theorem


@pytest.fixture(scope="module")
def prover() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prover_module", Path(__file__).parent / "prover_module.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prover_module"] = module
    spec.loader.exec_module(module)
    return module


def test_names() -> None:
    assert lean_name("Nat.add_comm'") == "Nat_add_comm" and lean_name("3/../x") == "theorem_3_x"
    assert lean_name("∀∀") == "theorem" and len(lean_name("a" * 500)) == 80
    assert unique_names(["a.b", "a b", "A_B", "c"]) == ["a_b", "a_b_v2", "A_B_v3", "c"]


def test_text() -> None:
    theorem = Theorem("and_swap", "(p q : Prop) (h : p ∧ q) : q ∧ p", context=("open Nat",), imports=("Init",))
    text = lean_file("and_swap", theorem, [(["constructor", "· exact h.2\n· exact h.1"], "by -/ hand")], "who")
    assert text == (
        "/- who -/\n\nimport Init\n\nopen Nat\n\n/- by - / hand -/\n"
        "theorem and_swap_1 (p q : Prop) (h : p ∧ q) : q ∧ p := by\n"
        "  constructor\n  · exact h.2\n  · exact h.1\n"
    )
    assert indented("cases h with\n| inl a =>\n    exact a\n") == "  cases h with\n  | inl a =>\n      exact a"
    assert comment("/- x").count("/-") == 1


def proved(*tactics: str) -> Episode:
    return Episode(("s0",) * len(tactics), tactics, "proved", axioms=())


def test_distinct_proofs_are_saved_and_checked_again(
    make_trainer: Any, prover: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    table = {"s0": {"a": "proved", "b": "s1"}, "s1": {"c": "proved"}}
    world = prover.WORLDS.World.of(table)
    failed = Episode(("s0",), ("z",), "error", error_kind="tactic")
    episodes = {
        "t0": (proved("a"), failed, proved(" a "), proved("b", "c")),
        "t1": (failed,),
        "t2": (proved("c"),),  # a claim that does not hold
    }
    callback = ProofFiles()
    trainer = make_trainer(callback)
    trainer.test(prover.ProverModule(world, episodes), prover.loader(prover.make_problems(3)), verbose=False)
    folder = tmp_path / "proofs" / "test"
    rows = [json.loads(line) for line in (folder / "proofs.jsonl").read_text().splitlines()]
    assert [(r["problem_id"], r["script"], r["verified"], r["file"]) for r in rows] == [
        ("t0", ["a"], True, "t0.lean"),
        ("t0", ["b", "c"], True, "t0.lean"),
        ("t2", ["c"], False, None),
    ]
    assert rows[0]["method"] == "prover" and rows[0]["seed"] == 7 and rows[0]["axioms"] == ["propext"]
    assert sorted(path.name for path in folder.iterdir()) == ["proofs.jsonl", "summary.json", "t0.lean"]
    text = (folder / "t0.lean").read_text()
    assert "theorem t0_1 : True := by\n  a\n" in text and "theorem t0_2 : True := by\n  b\n  c\n" in text
    assert "method prover, seed 7, step 0" in text and "sampling, temperature 1; axioms: propext" in text
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["proofs"], summary["verified"], summary["theorems_proved"]) == (3, 2, 1)
    assert callback.summary == "test: 2 of 3 proofs hold when checked again; 1 theorems proved"
    assert ("t0.lean", "proofs/test") in trainer.logger.artifacts


def test_proofs_of_a_search_are_saved_whatever_the_order_of_callbacks(
    make_trainer: Any, prover: Any, tmp_path: Path
) -> None:
    search = ProofSearch(search=prover.SEARCH)
    trainer = make_trainer(ProofFiles(), search)
    trainer.test(prover.ProverModule(), prover.loader(prover.make_problems()), verbose=False)
    rows = [json.loads(line) for line in (tmp_path / "proofs" / "test" / "proofs.jsonl").read_text().splitlines()]
    assert rows and all(row["verified"] and row["source"] == "search, branching 4" for row in rows)
    assert {row["problem_id"] for row in rows} == {proof.problem.id for proof in search.found}


def test_validations_are_saved_only_if_asked(make_trainer: Any, prover: Any, tmp_path: Path) -> None:
    episodes = {"t0": (proved("a"), proved("b", "c"))}
    world = prover.WORLDS.World.of({"s0": {"a": "proved", "b": "s1"}, "s1": {"c": "proved"}})
    for validation in (False, True):
        trainer = make_trainer(ProofFiles(validation=validation, max_proofs=1))
        trainer.validate(prover.ProverModule(world, episodes), prover.loader(prover.make_problems(1)), verbose=False)
        assert (tmp_path / "proofs" / "val_step_000000" / "t0.lean").exists() is validation
    assert len((tmp_path / "proofs" / "val_step_000000" / "proofs.jsonl").read_text().splitlines()) == 1
    with pytest.raises(ValueError, match="max_proofs"):
        ProofFiles(max_proofs=0)


@pytest.mark.lean
def test_files_are_valid_lean() -> None:
    from lightning_gfn.environments.embedded import EmbeddedLean

    reason = EmbeddedLean.unavailable()
    if reason is not None:
        pytest.skip(reason)
    theorem = Theorem("and.swap'", "(p q : Prop) (h : p ∧ q) : q ∧ r ∨ q ∧ p", context=("variable (r : Prop)",))
    cases = "apply Or.inr\ncases h with\n| intro a b =>\n  constructor\n  · exact b\n  · exact a"
    good, bad = ["right", "constructor", "exact h.2", "exact h.1"], ["right", "exact h"]
    lean = EmbeddedLean()
    try:
        for script, holds in ((good, True), ([cases], True), (bad, False)):
            text = lean_file(lean_name(theorem.name), theorem, [(script, "a remark")], "a header")
            read = lean.read_source(text)
            assert isinstance(read, tuple), read
            assert lean.check(*read).verified is holds
            assert lean.check(theorem, script).verified is holds
    finally:
        lean.close()
