"""Generated theorems: true, in several wordings, the same for a seed, resumable, splits disjoint up to renaming."""

from __future__ import annotations

import argparse
import gzip
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lightning_gfn.commands.lean_commands.generate import Work, build_parser, generate
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.lean_types import Theorem
from lightning_gfn.theorem_generation import arithmetic_statements, logic_statements
from lightning_gfn.theorem_generation.breadth_first import merged, search
from lightning_gfn.theorem_generation.canonical import canonical, clashes, group, take_apart
from lightning_gfn.theorem_generation.dataset import Quota, split_rows
from lightning_gfn.theorem_generation.drafts import Draft, attempt, drafts
from lightning_gfn.theorem_generation.formulas import Formula, atom, bound, join, quantify, write
from lightning_gfn.theorem_generation.natural_deduction import Goal, Prover
from lightning_gfn.theorem_generation.proof_scripts import different, script, term, wordings

P, Q, R = atom("p"), atom("q"), atom("r")
BARRED = ("simp", "omega", "decide", "grind", "aesop", "tauto", "exact?", "sorry")


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (join("imp", P, join("imp", Q, R)), "p → q → r"),
        (join("imp", join("imp", P, Q), R), "(p → q) → r"),
        (join("and", join("and", P, Q), R), "(p ∧ q) ∧ r"),
        (join("or", join("and", P, Q), R), "p ∧ q ∨ r"),
        (join("not", join("or", P, Q)), "¬(p ∨ q)"),
        (join("iff", join("imp", P, Q), join("iff", P, Q)), "p → q ↔ (p ↔ q)"),
        (join("or", quantify("all", "x", atom("P", "x")), P), "(∀ x, P x) ∨ p"),
    ],
)
def test_formulas_are_written_as_lean_does(formula: Formula, text: str) -> None:
    assert write(formula) == text


def test_bound_variables_do_not_count() -> None:
    one, two = (quantify("all", name, atom("P", name, "a")) for name in "xy")
    assert one != two and bound(one) == bound(two) != bound(quantify("all", "x", atom("P", "a", "x")))


def test_the_prover_finds_what_holds_and_nothing_else() -> None:
    prover = Prover()
    swap = Goal((("h", join("and", P, Q)),), join("and", Q, P))
    proofs = prover.proofs(swap, 4)
    assert proofs and proofs[0].steps == 3
    assert prover.proofs(Goal((("h", join("or", P, Q)),), P), 6) == []
    excluded = Goal((), join("or", P, join("not", P)))
    assert prover.proofs(excluded, 6) == [] and Prover(classical=True).proofs(excluded, 6)


def test_truth_tables_agree_with_the_prover() -> None:
    """Whatever the prover proves is a tautology; draws that are none are found among the rest."""
    refuted = 0
    for seed in range(300):
        random = Random(seed)
        fact, target = logic_statements.formula(random, "pq", 2), logic_statements.formula(random, "pq", 2)
        proved = bool(Prover(classical=True).proofs(Goal((("h", fact),), target), 5))
        valid = logic_statements.tautology([fact], target, "pq")
        assert valid or not proved, (fact, target)
        refuted += not valid
    assert refuted > 50


def test_wordings_differ_and_the_fake_lean_accepts_them() -> None:
    backend, checked, right = FakeLean(), 0, 0
    beyond = re.compile(r"⟨|absurd|\.elim")  # what the fake does not know
    for seed in range(1500):
        sequent = logic_statements.propositional(Random(seed))
        if sequent is None:
            continue
        scripts = wordings(list(sequent.proofs), Random(seed), tries=1, longest=6)
        assert len(set(scripts)) == len(scripts)
        theorem = Theorem("t", sequent.statement)
        known = ("intro", "exact", "apply", "constructor", "left", "right", "rcases", "assumption", "contradiction")
        for tactics in scripts:
            if all(tactic.split()[0] in known and not beyond.search(tactic) for tactic in tactics):
                checked += 1
                right += backend.check(theorem, tactics).verified
    assert right == checked > 80


def test_scripts_avoid_automation_and_stay_short() -> None:
    for family in logic_statements.FAMILIES:
        for draft in drafts(family, 0, 300):
            for tactics in draft.scripts:
                assert len(tactics) <= 6 and max(map(len, tactics)) <= 60
                assert not any(word in tactic for word in BARRED for tactic in tactics)


def test_terms_and_scripts_of_a_proof() -> None:
    (proof, *_) = Prover().proofs(Goal((("h", join("and", P, Q)),), join("and", Q, P)), 3)
    assert term(proof) == "⟨h.2, h.1⟩"
    assert script(proof, Random(0), 1.0) == ["exact ⟨h.2, h.1⟩"]
    assert len(script(proof, Random(0), 0.0)) in (2, 3)


def test_different_scripts_come_first() -> None:
    scripts = [("a", "b"), ("a", "c"), ("d",), ("a", "b", "c")]
    assert different(scripts, 2) == [("d",), ("a", "b")]


def test_random_equations_are_true() -> None:
    seen = 0
    for seed in range(300):
        statement = arithmetic_statements.nat_equation(Random(seed))
        if statement is None:
            continue
        named, goal = take_apart(statement)
        names = [name for name, kind in named if kind == "Nat"]
        for numbers in ((2, 3, 5), (0, 7, 1)):
            values = dict(zip(names, numbers, strict=False))
            for _, kind in named:
                if " = " in kind:
                    one, two = kind.split(" = ")
                    values[one] = values[two]
            assert eval(goal.replace("=", "=="), {}, values), statement
        seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    ("one", "two", "same", "grouped"),
    [
        ("(p q : Prop) (h : p ∧ q) : q", "(a b : Prop) (k : b ∧ a) : a", True, True),
        ("(p q : Prop) (h : p) (k : q) : q ∧ p", "(p q : Prop) (a : p) (b : q) : p ∧ q", True, True),
        ("(p q : Prop) (h : p ∧ q) : q", "(p q : Prop) (h : p ∧ q) : p", False, False),
        ("(p q : Prop) (hp : p) : p ∨ q", "(p q : Prop) : p → p ∨ q", False, True),
        ("(p : Prop) : ¬(p ∧ ¬p)", "(p : Prop) : p ∧ ¬p → False", False, True),
        ("(a b : Nat) : a + b = b + a", "(n m : Nat) : n + m = m + n", True, True),
        ("(a : Nat) : 0 + a = a", "(n : Nat) : n = 0 + n", False, True),
        ("(a : Nat) : 0 + a = a", "(n : Nat) : n + 0 = n", False, False),
        (
            "(α : Type) (P : α → Prop) (h : ∀ x, P x) : ∃ y, P y",
            "(β : Type) (Q : β → Prop) (k : ∀ z, Q z) : ∃ x, Q x",
            True,
            True,
        ),
        ("(α : Type) (xs : List α) : xs.length = 0", "(α : Type) (ys : List α) : ys.length = 0", True, True),
    ],
)
def test_statements_up_to_renaming(one: str, two: str, same: bool, grouped: bool) -> None:
    assert (canonical(one) == canonical(two)) is same
    assert (group(one) == group(two)) is grouped


def test_random_renamings_are_seen_through() -> None:
    for draft in drafts("propositional", 1, 400):
        renamed = re.sub(
            r"\b[pqrs]\b", lambda found: {"p": "s", "q": "r", "r": "a", "s": "q"}[found[0]], draft.statement
        )
        renamed = re.sub(r"\(h(\w*) :", r"(k\1 :", renamed)
        assert canonical(renamed) == canonical(draft.statement) and group(renamed) == group(draft.statement)


def test_statements_of_another_form_are_refused() -> None:
    for statement, message in (("(p) : p", "binder without a type"), ("{p : Prop} : p", "no goal")):
        with pytest.raises(ValueError, match=message):
            canonical(statement)


def row(statement: str, number: int = 0, family: str = "nat") -> dict[str, Any]:
    return {"family": family, "difficulty": 1, "statement": statement, "full_name": str(number), "proofs": []}


def test_a_planted_duplicate_is_caught_and_kept_on_one_side() -> None:
    assert clashes({"train": ["(p : Prop) (h : p) : p"], "test": ["(q : Prop) : q → q"]})
    assert not clashes({"train": ["(p : Prop) (h : p) : p", "(q : Prop) : q → q"], "test": []})
    rows = [row(f"(a : Nat) : a + {i} = {i} + a", i) for i in range(20)]
    rows += [row(f"(k : Nat) : {i} + k = k + {i}", 100 + i, "list") for i in range(20)]
    splits = split_rows(rows, {"train": 6, "val": 2, "test": 2}, 0)
    assert sum(map(len, splits.values())) == 40 and all(splits.values())
    assert not clashes({name: [one["statement"] for one in chosen] for name, chosen in splits.items()})


def test_quotas_fill_up_with_what_there_is() -> None:
    quota = Quota("propositional", 8)
    for number in range(9):
        if quota.wants(1):
            quota.take({"difficulty": 1, "n": number})
    assert len(quota.taken[1]) == 5 and not quota.full and len(quota.rows()) == 5
    for level in (2, 3, 4):
        for number in range(2):
            quota.take({"difficulty": level, "n": number})
    assert quota.full and [one["difficulty"] for one in quota.rows()] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_the_search_finds_the_shortest_first() -> None:
    theorem = Theorem("t", "(p q : Prop) (h : p ∧ q) : q ∧ p")
    tactics = ("constructor", "exact h.2", "exact h.1", "exact ⟨h.2, h.1⟩", "left", "intro x")
    found = search(FakeLean(), theorem, lambda state, depth: tactics)
    assert found == [("exact ⟨h.2, h.1⟩",), ("constructor", "exact h.2", "exact h.1")]
    assert search(FakeLean(), theorem, lambda state, depth: tactics, tries=2) == []
    assert merged(("rw [a]", "rw [b]", "rfl", "rw [c]", "rw [d] at h")) == ("rw [a, b]", "rfl", "rw [c]", "rw [d] at h")


def test_a_backend_that_breaks_costs_one_draft() -> None:
    draft = Draft("propositional", 0, "(p : Prop) (hp : p) : p", 1, (("exact hp",),))
    assert attempt(FakeLean(crash_on=["exact hp"]), draft, 2) == (0, [])
    level, (proof,) = attempt(FakeLean(), draft, 2)
    assert level == 1 and proof[0]["state_after"] == "no goals"


def test_a_proof_that_the_check_refuses_is_not_kept() -> None:
    draft = Draft("propositional", 0, "(p : Prop) (hp : p) : p", 1, (("exact lie",), ("assumption",)))
    _, proofs = attempt(FakeLean(lie_on=["exact lie"]), draft, 2)
    assert [proof[0]["tactic"] for proof in proofs] == ["assumption"]


def options(folder: Path, *more: str) -> argparse.Namespace:
    sizes = ["--num_train", "12", "--num_val", "3", "--num_test", "5", "--draws", "900"]
    return build_parser().parse_args(["--output", str(folder), "--families", "propositional", *sizes, *more])


def test_a_set_is_the_same_for_a_seed_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    said: list[str] = []
    figures = generate(options(tmp_path / "a"), FakeLean(), said.append)
    assert figures["theorems"] == {"train": 12, "val": 3, "test": 5}
    assert figures["proofs_verified"] >= 20 and figures["rejected"]["propositional"]
    work = (tmp_path / "a" / "work.jsonl").read_text().splitlines()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "work.jsonl").write_text("\n".join(work[:9]) + "\n" + work[9][:20])
    generate(options(tmp_path / "b"), FakeLean(), said.append)
    generate(options(tmp_path / "c", "--seed", "1"), FakeLean(), said.append)
    texts = [(tmp_path / name / "train.json").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert (tmp_path / "b" / "work.jsonl").read_text().splitlines() == work


def test_compressed_sets_hold_the_same(tmp_path: Path) -> None:
    generate(options(tmp_path), FakeLean(), print)
    generate(options(tmp_path, "--compress"), FakeLean(), print)
    packed = gzip.decompress((tmp_path / "test.json.gz").read_bytes())
    assert packed == (tmp_path / "test.json").read_bytes()
    assert json.loads(packed)[0]["traced_tactics"][0]["annotated_tactic"][1] == []


def test_a_work_file_of_other_settings_is_refused(tmp_path: Path) -> None:
    Work(tmp_path / "work.jsonl", {"seed": 0})
    with pytest.raises(ValueError, match="delete it, or change --output"):
        Work(tmp_path / "work.jsonl", {"seed": 1})
