"""``prove``: theorems as people write them, proofs in groups, and what is said of models that prove nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from small_models import write_small_model
from tactic_policy import CONJUNCTION, TacticPolicy

from lightning_gfn import cli
from lightning_gfn.commands.asking.sources import ModelSource
from lightning_gfn.commands.asking.theorems import lean_text, read_theorem, theorems_to_prove
from lightning_gfn.commands.prove import build_parser, no_prover, prove_all
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.types import Problem

SOURCE = """import Init
-- theorem commented : False := sorry
/- theorem nested /- -/ : False := by sorry -/
variable (p q : Prop)
def two (n : Nat := 2) : Nat := n
theorem known (hp : p) : p ∨ q := by
  left
  exact hp
/-- Its docstring. -/
@[simp] theorem open_one (hp : p) (n : Nat := 3) : p ∧ n = n := by
  sorry
namespace A
lemma open_two {p : Prop}
    (hp : p) : p := sorry
end A
"""


def test_open_theorems_of_a_file_with_what_stands_before_them() -> None:
    first, second = theorems_to_prove(SOURCE)
    assert (first.name, first.statement) == ("open_one", "(hp : p) (n : Nat := 3) : p ∧ n = n")
    assert [text.split()[0] for text in first.context] == ["variable", "def", "theorem"] and first.imports == ("Init",)
    assert (second.name, second.statement) == ("open_two", "{p : Prop}\n    (hp : p) : p")
    assert second.context[-1] == "namespace A" and not any("sorry" in text for text in second.context)


def test_without_open_theorems_the_last_one_is_meant() -> None:
    (only,) = theorems_to_prove("theorem a : True := trivial\ntheorem b : 1 = 1 := rfl\n")
    assert only.name == "b" and only.context == ("theorem a : True := trivial",)


@pytest.mark.parametrize(
    ("text", "name", "statement"),
    [
        ("theorem swap (p q : Prop) : p → q", "swap", "(p q : Prop) : p → q"),
        ("theorem swap (p : Prop) : p → p := by sorry", "swap", "(p : Prop) : p → p"),
        ("swap (p : Prop) : p → p", "swap", "(p : Prop) : p → p"),
        ("(p : Prop) (hp : p) : p", "asked", "(p : Prop) (hp : p) : p"),
        (": 1 + 1 = 2", "asked", ": 1 + 1 = 2"),
        ("example : 1 + 1 = 2 := by", "asked", ": 1 + 1 = 2"),
        ("theorem t : ∀ n : Nat, n = n", "t", ": ∀ n : Nat, n = n"),
        ("theorem t {x : Nat} [Inhabited Nat] (h : x = (fun (y : Nat) => y) x) : x = x", "t",
         "{x : Nat} [Inhabited Nat] (h : x = (fun (y : Nat) => y) x) : x = x"),
    ],
)  # fmt: skip
def test_a_theorem_of_the_command_line(text: str, name: str, statement: str) -> None:
    theorem = read_theorem(text)
    assert (theorem.name, theorem.statement) == (name, statement)


@pytest.mark.parametrize("text", ["theorem t", "prove it", "def f : Nat := 3"])
def test_what_is_no_theorem_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="has no statement|states no theorem"):
        read_theorem(text)


def attempted(capsys: pytest.CaptureFixture[str], *args: str, theorem: Any = CONJUNCTION) -> tuple[int, str]:
    """Exit status and output of attempts by a policy over whole tactics."""
    options: argparse.Namespace = build_parser().parse_args(["model", "-k", "16", *args])
    policy = TacticPolicy(max_new_tokens=1, min_new_tokens=1)
    pool = LeanPool(FakeLean())
    try:
        status = prove_all(policy, ModelSource("model"), [Problem("asked/c", "", theorem=theorem)], pool, options)
    finally:
        pool.close()
    return status, capsys.readouterr().out


def test_proofs_are_counted_by_script_and_failures_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = attempted(capsys, "--json")
    found = json.loads(text)
    proved = [attempt for attempt in found["attempts"] if attempt["proved"]]
    groups = [group for group in found["groups"] if group["proved"]]
    assert status == 0 and len(found["attempts"]) == 16 and proved
    assert len(groups) == len({tuple(attempt["tactics"]) for attempt in proved})
    assert sorted(i for group in found["groups"] for i in group["attempts"]) == list(range(16))
    assert found["first_state"].endswith("⊢ p ∧ q") and found["lean"].startswith("Lean ")
    status, text = attempted(capsys)
    assert f"{len(proved)} proof" in text and "── proof 1" in text and "── failed, " in text
    assert "theorem conjunction (p q : Prop) (hp : p) (hq : q) : p ∧ q := by\n" in text


def test_a_search_finds_proofs(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = attempted(capsys, "--search", "--json", "--nodes", "16", "--max_steps", "4", "-k", "2")
    found = json.loads(text)
    scripts = {tuple(attempt["tactics"]) for attempt in found["attempts"] if attempt["proved"]}
    assert status == 0 and scripts and scripts <= set(CONJUNCTION.proofs)
    refused = [attempt for attempt in found["attempts"] if not attempt["proved"]]
    assert refused and all(attempt["message"] for attempt in refused)
    assert found["how"].startswith("best-first search: ")


def test_a_statement_that_lean_refuses_is_told_apart_from_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_gfn.lean_types import Theorem

    status, text = attempted(capsys, theorem=Theorem("t", "(p : Prop : p"))
    assert status == 1 and "Lean refuses the statement: " in text


def test_a_model_that_is_no_prover_is_called_so() -> None:
    chat = SimpleNamespace(codec=SimpleNamespace(chat=object()))
    plain = SimpleNamespace(codec=SimpleNamespace(chat=None))
    maths = {"model": {"init_args": {"policy": {}}}, "data": {"class_path": "datamodules.gsm8k.GSM8K"}}
    proofs = {"model": {"init_args": {"proving": {"max_steps": 3}}}}
    assert "m is a chat model and no prover" in (no_prover(ModelSource("m"), chat) or "")
    assert "m is not known to be a prover" in (no_prover(ModelSource("m"), plain) or "")
    assert "trained on other problems" in (no_prover(ModelSource("m", config=maths), plain) or "")
    assert no_prover(ModelSource("m", config=proofs), plain) is None


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_model(tmp_path / "small")
    (tmp_path / "x.lean").write_text(SOURCE.replace("variable (p q : Prop)\n", ""), encoding="utf-8")
    small = ["--backend", "fake", "-k", "2", "--max_new_tokens", "4", "--max_steps", "2"]
    assert cli.main(["prove", "small", "theorem t (p : Prop) (hp : p) : p", *small]) == 1
    said = capsys.readouterr()
    assert "small is not known to be a prover" in said.err and "Lean accepted not one tactic of this model." in said.out
    for args, words in (
        (["--file", "x.lean", "--row", "3"], "--row 3: there are 2 theorems"),
        (["--file", "nowhere.lean"], "nowhere.lean"),
        (["theorem t"], "has no statement"),
        ([], 'give one of "theorem …"'),
        (["theorem t : True", "--backend", "leandojo"], "proves theorems of traced repositories alone"),
    ):
        assert cli.main(["prove", "small", *args, "-k", "1"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert words in error and error.startswith("lightning-gfn prove: ")


def test_the_prompt_and_the_steps_of_a_run_are_kept() -> None:
    from lightning_gfn.commands.asking.attempts import make_proving

    config = yaml.safe_load("model: {init_args: {proving: {max_steps: 5, prompt: {history: false}}}}")
    proving = make_proving(LeanPool(FakeLean()), ModelSource("m", config=config), None)
    assert (proving.max_steps, proving.proof_prompt.history) == (5, False)
    assert make_proving(LeanPool(FakeLean()), ModelSource("m", config=config), 2).max_steps == 2
    assert make_proving(LeanPool(FakeLean()), ModelSource("m"), None).max_steps == 8


def test_a_proof_is_shown_as_lean_reads_it() -> None:
    assert lean_text(CONJUNCTION, ("constructor", "· exact hp\n· exact hq")).splitlines()[1:] == [
        "  constructor", "  · exact hp", "  · exact hq",
    ]  # fmt: skip


@pytest.mark.lean
def test_real_lean_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_gfn.environments.embedded import EmbeddedLean

    lean = EmbeddedLean()
    try:
        for theorem in theorems_to_prove(SOURCE):
            assert "⊢" in lean.start(theorem).text  # type: ignore[union-attr]
    finally:
        lean.close()
