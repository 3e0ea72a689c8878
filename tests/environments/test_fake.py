"""The logic of the fake Lean against truth tables, its text against what Lean prints, its faults as asked for."""

from __future__ import annotations

import copy
import itertools
import pickle
import random

import pytest

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.fake_lean.propositional import (
    FALSE,
    TRUE,
    Formula,
    Reader,
    Refused,
    Sequent,
    show,
    variables,
)
from lightning_gfn.environments.fake_lean.tactics import Goal, run
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout
from lightning_gfn.lean_types import LeanError, ProofFinished, TacticState, Theorem

PROOFS = {
    "(p q : Prop) (hp : p) (hq : q) : p ∧ q": ["constructor", "exact hp", "exact hq"],
    "(p q : Prop) : p ∧ q → q ∧ p": ["intro h", "cases h", "constructor", "assumption", "assumption"],
    "(p q : Prop) (h : p ∨ q) : q ∨ p": ["cases h", "right", "assumption", "left", "assumption"],
    "(p q r : Prop) (f : p → q → r) (hp : p) (hq : q) : r": ["apply f", "exact hp", "exact hq"],
    "(p q : Prop) (h : p) (n : ¬p) : q": ["exfalso", "apply n", "exact h"],
    "(p : Prop) : p → ¬¬p": ["intro hp n", "exact n hp"],
    "{p q : Prop} : (p ↔ q) → (q ↔ p)": ["intro h", "exact ⟨h.mpr, h.mp⟩"],
    ": True ∧ (False → True)": ["constructor", "trivial", "intro h", "cases h"],
    "(p q : Prop) : p ∨ q ↔ q ∨ p": [
        "constructor", "intro h", "rcases h with a | b", "exact Or.inr a", "exact Or.inl b",
        "intro h", "obtain a | b := h", "right", "exact a", "left", "exact b",
    ],
    "(p q : Prop) : (p → q) → ¬q → ¬p": ["exact fun f n h => n (f h)"],
}  # fmt: skip


def prove(backend: FakeLean, statement: str, script: list[str]) -> list[object]:
    state: object = backend.start(Theorem("t", statement))
    results = [state]
    for tactic in script:
        assert isinstance(state, TacticState), (state, tactic)
        state = backend.run_tac(state, tactic)
        results.append(state)
    return results


@pytest.mark.parametrize("statement", PROOFS)
def test_true_statements_are_proved(statement: str) -> None:
    backend, script = FakeLean(), PROOFS[statement]
    *_, last = prove(backend, statement, script)
    assert last == ProofFinished()
    assert backend.check(Theorem("t", statement), script).verified
    assert not backend.check(Theorem("t", statement), script[:-1]).verified
    assert not backend.check(Theorem("t", statement), [*script, "trivial"]).verified


def test_goals_are_printed_as_lean_prints_them() -> None:
    """The texts are those of Lean 4.28."""
    statement = "(p q r : Prop) (hp hp' : p) (h : q ∧ ¬r ∨ ((p → q) → r)) : (p ∧ q) ∧ (r → p)"
    first, second, third = prove(FakeLean(), statement, ["constructor", "cases h"])
    hypotheses = "p q r : Prop\nhp hp' : p\n"
    assert isinstance(first, TacticState) and isinstance(second, TacticState) and isinstance(third, TacticState)
    assert first.text == f"{hypotheses}h : q ∧ ¬r ∨ ((p → q) → r)\n⊢ (p ∧ q) ∧ (r → p)"
    assert second.goals[1] == f"case right\n{hypotheses}h : q ∧ ¬r ∨ ((p → q) → r)\n⊢ r → p"
    assert third.goals[0] == f"case left.inl\n{hypotheses}h✝ : q ∧ ¬r\n⊢ p ∧ q"


def test_hidden_hypotheses_carry_daggers() -> None:
    *_, last = prove(FakeLean(), "(p q r : Prop) : p → q → r → p", ["intro h h h"])
    assert isinstance(last, TacticState) and last.text == "p q r : Prop\nh✝¹ : p\nh✝ : q\nh : r\n⊢ p"
    assert isinstance(FakeLean().start(Theorem("t", "(p : Prop) : p ∧ r")), LeanError)


@pytest.mark.parametrize(
    ("statement", "tactic", "message"),
    [
        ("(p q : Prop) (h : p) : q", "exact h", "but is expected to have type\n  q"),
        ("(p q : Prop) (h : p) : q", "exact g", "Unknown identifier `g`"),
        ("(p q : Prop) (h : p) : q", "apply h", "could not unify"),
        ("(p q : Prop) (h : p) : q", "intro x", "no additional binders"),
        ("(p q : Prop) (h : p) : q", "constructor", "not an inductive"),
        ("(p q : Prop) (h : p) : q", "left", "two constructors"),
        ("(p q : Prop) (h : p) : q", "assumption", "failed"),
        ("(p q : Prop) (h : p) : q", "cases h", "not of an inductive"),
        ("(p q : Prop) (h : p) : q", "sorry", "unknown tactic"),
        ("(p q : Prop) (h : p) : p", "exact h )", "expected end of input"),
        ("(p q : Prop) (h : p) : q", "", "unknown tactic"),
        ("(p q : Prop) (h : p ∧ q) : q", "exact h.1", "Type mismatch"),
        ("(p q : Prop) (h : p ∧ q) : q", "rcases h with a | b", "does not fit"),
    ],
)
def test_wrong_tactics_are_errors(statement: str, tactic: str, message: str) -> None:
    result = prove(FakeLean(), statement, [tactic])[-1]
    assert isinstance(result, LeanError) and result.kind == "tactic" and message in result.message


@pytest.mark.parametrize("statement", ["(n : Nat) : n = n", "(p : Prop) p", ": ∀ p : Prop, p → p", "(h : p) : p"])
def test_other_statements_cannot_be_stated(statement: str) -> None:
    result = FakeLean().start(Theorem("t", statement))
    assert isinstance(result, LeanError) and result.kind == "statement"


def test_variables_of_the_context() -> None:
    theorem = Theorem("t", "(h : q) : q", context=("variable (p q : Prop)",))
    state = FakeLean().start(theorem)
    assert isinstance(state, TacticState) and state.text == "q : Prop\nh : q\n⊢ q"


def holds(formula: Formula, world: dict[str, bool]) -> bool:
    if not formula.parts:
        return formula == TRUE or (formula != FALSE and world[formula.head])
    a, *rest = [holds(part, world) for part in formula.parts]
    table = {"¬": not a, "∧": a and all(rest), "∨": a or any(rest), "→": not a or all(rest), "↔": [a] == rest}
    return table[formula.head]


def valid(goal: Goal) -> bool:
    names = goal.sequent.propositions
    for values in itertools.product([False, True], repeat=len(names)):
        world = dict(zip(names, values, strict=True))
        if all(holds(formula, world) for _, formula in goal.sequent.hypotheses) and not holds(goal.sequent.goal, world):
            return False
    return True


def random_formula(rng: random.Random, depth: int) -> Formula:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice([Formula("p"), Formula("q"), Formula("r"), TRUE, FALSE])
    head = rng.choice("∧∨→↔¬")
    return Formula(head, tuple(random_formula(rng, depth - 1) for _ in range(1 if head == "¬" else 2)))


def attempts(rng: random.Random, hypotheses: list[str]) -> str:
    names = [*hypotheses, "x"]
    return rng.choice(
        ["intro h", "intro g", "constructor", "left", "right", "assumption", "trivial", "contradiction", "exfalso"]
        + [f"{word} {rng.choice(names)}" for word in ("exact", "apply", "cases")]
        + [f"rcases {rng.choice(names)} with a | b", f"obtain ⟨a, b⟩ := {rng.choice(names)}"]
        + [f"exact {rng.choice(names)}.{rng.choice(['1', '2'])}", f"exact {rng.choice(names)} {rng.choice(names)}"]
    )


def unsound_steps(step: object, tries: int = 3000) -> tuple[int, int]:
    """Of random steps: how many lead from an invalid goal to valid ones only, and how many were made."""
    rng, unsound, made = random.Random(0), 0, 0
    while made < tries:
        given = tuple((name, random_formula(rng, 2)) for name in ("h", "g"))
        goals: tuple[Goal, ...] = (Goal(Sequent(("p", "q", "r"), given, random_formula(rng, 2))),)
        for _ in range(4):
            try:
                new = step(goals, attempts(rng, [name for name, _ in goals[0].sequent.hypotheses]))
            except Refused:
                continue
            made += 1
            unsound += all(map(valid, new)) and not all(map(valid, goals))
            if not new:
                break
            goals = new
    return unsound, made


def test_no_step_proves_what_is_not_valid() -> None:
    assert unsound_steps(run)[0] == 0


def test_an_unsound_tactic_would_be_seen() -> None:
    def planted(goals: tuple[Goal, ...], tactic: str) -> tuple[Goal, ...]:
        return goals[1:] if tactic == "constructor" else run(goals, tactic)

    assert unsound_steps(planted)[0] > 0


def test_formulas_are_read_as_they_are_printed() -> None:
    rng = random.Random(1)
    for _ in range(500):
        formula = random_formula(rng, 4)
        assert Reader(show(formula)).formula() == formula
    assert variables(Reader("p → q ∧ ¬True").formula()) == {"p", "q"}


def test_states_are_immutable_and_can_be_released() -> None:
    backend = FakeLean()
    state = backend.start(Theorem("t", "(p q : Prop) (h : p) : p ∨ q"))
    assert isinstance(state, TacticState)
    assert backend.run_tac(state, "left") == backend.run_tac(state, "left") != backend.run_tac(state, "right")
    backend.release([state])
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(state, "left")


def test_faults_on_demand() -> None:
    backend = FakeLean(crash_on=["left"], timeout_on=["right"], lie_on=["exact x"], crash_every=3)
    theorem = Theorem("t", "(p q : Prop) (h : p) : p ∨ q")

    def step(tactic: str) -> object:
        state = backend.start(theorem)
        assert isinstance(state, TacticState)
        return backend.run_tac(state, tactic)

    with pytest.raises(BackendFault, match="died of `left`"):
        step("left")
    with pytest.raises(BackendTimeout):
        step("right")
    with pytest.raises(BackendFault, match="died"):
        step("assumption")
    assert step("exact x") == ProofFinished() and not backend.check(theorem, ["exact x"]).verified
    with pytest.raises(ValueError, match="backend.latency"):
        FakeLean(latency=-1)


def test_a_copy_is_another_process() -> None:
    backend = FakeLean(resident_mb=1, growth_mb=2)
    state = backend.start(Theorem("t", "(p : Prop) (h : p) : p"))
    assert isinstance(state, TacticState)
    backend.run_tac(state, "exact h")
    assert backend.resident_bytes() == 3 * 2**20
    for other in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend))):
        assert other.num_states == 0 and other.resident_bytes() == 2**20
    backend.close()
    assert backend.num_states == 0
