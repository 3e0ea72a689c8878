"""Classes that one completion alone decides: equations, skeletons, proofs, known paths."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from datamodules.generators.synthetic_grammar import LEVELS, STYLES, sample_problem
from lightning_gfn.answers.equation_normal_form import equations, operations
from lightning_gfn.lean_types import Theorem
from lightning_gfn.similarity.tactic_scripts import lemma_names
from lightning_gfn.solution_classes import (
    EquationClasses,
    FirstTactic,
    KnownPaths,
    LemmaSets,
    ScriptSkeleton,
    SkeletonClasses,
    SolutionClasses,
)
from lightning_gfn.solution_classes.short_names import SHORT_NAMES, classes_named
from lightning_gfn.types import Problem

PROBLEM = Problem("p", "How many?")


@pytest.mark.parametrize(
    ("text", "skeleton"),
    [
        ("3 * 9 = 27. 27 + 5 = 32.", "*; +"),
        ("Twice: 2 × 4 = 8, and then 8 + 1 = 9", "*; +"),
        ("27 + 5 = 32 since 3 * 9 = 27", "+; *"),
        ("x = 3 * 9 + 5 = 27 + 5 = 32", "*++"),
        ("Undo it: x - 5 = 27 so x = 32.", "-"),
        ("-3 + 5 = 2 and 7 - -2 = 9", "+; -"),
        (r"\frac{8}{4} = 2", "/"),
        ("(2 + 9) * 8 = 88", "+*"),
        ("In my head: 88", ""),
    ],
)
def test_skeletons_are_operations_in_order(text: str, skeleton: str) -> None:
    assert SkeletonClasses().labels(PROBLEM, [text]) == [skeleton]


def written_operations(equation: str) -> str:
    """Signs between two operands, by a walk over the characters."""
    found, operand = "", False
    for character in equation:
        if character in "+-*/" and operand:
            found += character
            operand = False
        elif character == "=":
            operand = False
        elif character not in "+-*/(":
            operand = True
    return found


def test_skeletons_of_generated_solutions_equal_a_written_walk_and_forget_the_numbers() -> None:
    """Problems of a level differ in numbers and names alone, so a path has one skeleton where counts do not show."""
    random = Random(0)
    for level in LEVELS:
        drawn = [sample_problem(random, level) for _ in range(6)]
        for problem in drawn:
            for text in problem.solutions():
                assert operations(text) == tuple(written_operations(equation) for equation in equations(text))
        for style in set(STYLES) - {"story", "count"}:
            texts = [STYLES[style](problem.summands) for problem in drawn]
            assert len(set(SkeletonClasses().labels(PROBLEM, texts))) == 1


def test_a_skeleton_is_coarser_than_the_sequence_of_equations() -> None:
    random = Random(1)
    for _ in range(20):
        texts = list(sample_problem(random, 2).solutions())
        fine = EquationClasses("sequence").labels(PROBLEM, texts)
        coarse = SkeletonClasses().labels(PROBLEM, texts)
        for i, j in combinations(range(len(texts)), 2):
            assert fine[i] != fine[j] or coarse[i] == coarse[j]


PROOFS = [
    "intro h1\nexact h.left",
    "intro h2; exact h.left",
    "rcases h with ⟨hp, hq⟩\nexact fun h => absurd hp (Or.inl hq)",
    "-- first\nintro\n  rw [← Nat.add_comm, Nat.zero_add]",
    "",
]
STATEMENT = Problem("t", "", theorem=Theorem("t", "(p q : Prop) (h : p ∧ ¬q) {α : Type} : p ∨ q → p"))


def test_proofs_by_first_tactic_and_skeleton() -> None:
    assert FirstTactic().labels(STATEMENT, PROOFS) == ["intro", "intro", "rcases", "intro", None]
    assert FirstTactic(whole=True).labels(STATEMENT, PROOFS[:2]) == ["intro x1", "intro x1"]
    assert ScriptSkeleton().labels(STATEMENT, PROOFS) == [
        "intro; exact", "intro; exact", "rcases; exact", "intro; rw", ""
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("exact h.left", set()),
        ("exact ⟨hq, fun h1 => h1⟩", {"hq"}),
        ("cases h with | inl hp => exact Or.inr hp | inr hq => simp [hq, Nat.succ_le]", {"Or.inr", "Nat.succ_le"}),
        ("rw [← Nat.add_comm p, Nat.add_comm] at h", {"Nat.add_comm"}),
        ("have h2 : q := foo h; exact absurd h2 (bar p)", {"foo", "absurd", "bar"}),
        ("case inl x => exact x", set()),
        ("refine ⟨?_, _⟩ <;> simp_all", set()),
        ("obtain ⟨a, b⟩ | c := lem.mp h\nexact c.trans b", {"lem.mp"}),
    ],
)
def test_lemmas_are_names_of_the_library(script: str, names: set[str]) -> None:
    assert lemma_names([script], "(p q : Prop) (h : p ∨ q) : q") == names
    assert LemmaSets().labels(STATEMENT, [script]) == [", ".join(sorted(names))]


def test_known_paths_ask_for_a_known_set() -> None:
    known = Problem("k", "", solution_set={"a": "one", "b": "two"})
    assert KnownPaths().labels(known, ["b", "a", "c"]) == ["two", "one", None]
    with pytest.raises(ValueError, match=r"'p' has no known set of solutions.*EquationClasses"):
        KnownPaths().labels(PROBLEM, ["a"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("equations", "equation_sets"),
        ("equations,order=sequence", "equation_sequences"),
        ("skeleton", "skeletons"),
        ("rouge,threshold=0.8,linkage=leaders", "rouge_0.8_leaders"),
        ("first_tactic,whole=true", "whole_first_tactics"),
        ("lemmas", "lemma_sets"),
        ("script", "script_skeletons"),
        ("known_paths", "known_paths"),
    ],
)
def test_short_names(text: str, name: str) -> None:
    made = classes_named(text)
    assert isinstance(made, SolutionClasses) and made.name == name and made.meaning == name
    assert text.split(",")[0] in SHORT_NAMES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rogue", "unknown name 'rogue'; use one of known_paths, equations"),
        ("rouge,0.8", "'0.8' is no setting; write rouge,key=value"),
        ("rouge,treshold=0.8", "'rouge,treshold=0.8': .*treshold"),
        ("rouge,threshold=1.5", "threshold"),
        ("equations,order=list", "use one of sequence, set"),
        ("function,function=nothere.py:f", "class function file 'nothere.py' does not exist"),
    ],
)
def test_a_wrong_name_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classes_named(text)
