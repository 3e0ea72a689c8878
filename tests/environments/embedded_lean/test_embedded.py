"""The embedded Lean keeps the contract of a backend. Needs it: lightning-gfn lean install."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout
from lightning_gfn.lean_types import LeanError, ProofFinished, TacticState, Theorem

pytestmark = pytest.mark.lean
OR = Theorem("or_left", "(p q : Prop) (hp : p) : p ∨ q")
LONG = Theorem("long", ": (List.range 300000).foldl (· + ·) 0 = 3")
AND = Theorem("and_swap", "(p q : Prop) (h : p ∧ q) : q ∧ p")


def begun(lean: EmbeddedLean, theorem: Theorem) -> TacticState:
    state = lean.start(theorem)
    assert isinstance(state, TacticState), state
    return state


def test_version(lean: EmbeddedLean) -> None:
    assert lean.version.startswith("4.28.0") and lean.resident_bytes() > 1 << 28


def test_steps_branch_and_states_compare_by_goals(lean: EmbeddedLean) -> None:
    first = begun(lean, OR)
    assert first.text == "p q : Prop\nhp : p\n⊢ p ∨ q"
    left, right = lean.run_tac(first, "left"), lean.run_tac(first, "right")
    assert isinstance(left, TacticState) and isinstance(right, TacticState) and left != right
    assert lean.run_tac(first, "apply Or.inl") == left and lean.start(OR) == first
    assert lean.run_tac(left, "exact hp") == ProofFinished()
    error = lean.run_tac(right, "exact hp")
    assert isinstance(error, LeanError) and error.kind == "tactic" and "ype mismatch" in error.message


def test_a_tactic_may_be_several(lean: EmbeddedLean) -> None:
    first = begun(lean, AND)
    for text in ("constructor\n· exact h.2\n· exact h.1", "  constructor\n  exact h.2\n  exact h.1", "exact ⟨h.2, h.1⟩",
                 "cases h with\n| intro a b => exact ⟨b, a⟩", "constructor; exact h.2; exact h.1"):  # fmt: skip
        assert lean.run_tac(first, text) == ProofFinished(), text
    two = lean.run_tac(first, "constructor")
    assert isinstance(two, TacticState) and len(two.goals) == 2 and two.text.count("⊢") == 2


@pytest.mark.parametrize("text", ["", "exact h.2)", "constructor\n  exact", "exact foo", "⊢", "exact ⟨h.2, h.1⟩\nrfl"])
def test_errors_of_tactics_are_values(lean: EmbeddedLean, text: str) -> None:
    result = lean.run_tac(begun(lean, AND), text)
    assert isinstance(result, LeanError) and result.kind == "tactic" and result.message


@pytest.mark.parametrize(
    ("statement", "imports", "part"),
    [
        ("(p : Prop) : q", ("Init",), "q"),
        (": 1 = ", ("Init",), "unexpected"),
        (": 1 = 1 := rfl\ntheorem x : 1 = 1", ("Init",), ""),
        (": True := trivial\naxiom foo", ("Init",), ""),
        (": 1 = 1 := rfl --", ("Init",), ""),
        (": Nat", ("Init",), ""),
        ("(h : sorry) : True", ("Init",), "sorry"),
        (": True", ("Mathlib",), "Mathlib"),
    ],
)
def test_statements_that_cannot_be_stated(
    lean: EmbeddedLean, statement: str, imports: tuple[str, ...], part: str
) -> None:
    theorem = Theorem("wrong", statement, imports=imports)
    result = lean.start(theorem)
    assert isinstance(result, LeanError) and result.kind == "statement" and part in result.message
    assert not lean.check(theorem, ["trivial"]).verified


def test_context_and_imports(lean: EmbeddedLean) -> None:
    context = ("variable {α : Type} (p q : Prop)", "open Nat", "inductive Tree | leaf | node (a b : Tree)",
               "def Tree.size : Tree → Nat\n  | .leaf => 1\n  | .node a b => a.size + b.size")  # fmt: skip
    theorem = Theorem("Nat.add_comm", ": Tree.size (.node .leaf .leaf) = 2", context)
    assert lean.check(theorem, ["rfl"]).verified
    assert begun(lean, Theorem("v", "(h : p) : p", context)).goals == ("p : Prop\nh : p\n⊢ p",)
    std = Theorem("m", "(m : Std.HashMap Nat Nat) : m.size = m.size", imports=("Init", "Std"))
    assert lean.check(std, ["rfl"]).verified
    broken = lean.start(Theorem("b", ": True", ("theorem bad : 1 = 2 := rfl",)))
    assert isinstance(broken, LeanError) and broken.kind == "statement" and broken.message.startswith("context: ")


def test_contexts_are_elaborated_once_and_the_oldest_is_dropped(lean: EmbeddedLean) -> None:
    before = lean.cached_contexts
    lean.cached_contexts = 3
    try:
        for number in range(6):
            assert lean.check(Theorem("c", f": k = {number}", (f"def k := {number}",)), ["rfl"]).verified
        assert len(lean._contexts) == 3
        assert lean.check(Theorem("c", ": k = 0", ("def k := 0",)), ["rfl"]).verified
        started = time.monotonic()
        for _ in range(5):
            begun(lean, Theorem("c", ": k = 5", ("def k := 5",)))
        assert len(lean._contexts) == 3 and time.monotonic() - started < 60
    finally:
        lean.cached_contexts = before


def test_check_names_the_tactic_that_fails(lean: EmbeddedLean) -> None:
    assert lean.check(AND, ["constructor", "exact h.2", "exact h.1"]).verified
    assert lean.check(AND, ["constructor", "exact h.1"]).message.startswith("tactic 2: ")
    assert lean.check(AND, ["constructor", "exact h.2"]).message == "unsolved goals remain"
    assert lean.check(AND, ["exact ⟨h.2, h.1⟩", "rfl"]).message == "no goals are left for tactic 2"
    assert not lean.check(AND, []).verified


def test_axioms_are_recorded(lean: EmbeddedLean) -> None:
    assert lean.check(Theorem("e", "(p q : Prop) (h : p ↔ q) : p = q"), ["exact propext h"]).axioms == ("propext",)
    choice = lean.check(Theorem("c", "(p : Prop) : p ∨ ¬p"), ["exact Decidable.em p"])
    assert not choice.verified
    classical = lean.check(Theorem("c", "(α : Type) (h : Nonempty α) : ∃ a : α, a = a"),
                           ["exact ⟨Classical.choice h, rfl⟩"])  # fmt: skip
    assert classical.verified and classical.axioms == ("Classical.choice",)


def test_universes_and_implicit_variables(lean: EmbeddedLean) -> None:
    assert lean.check(Theorem("u", "{α : Sort u} (a b : α) (h : a = b) : b = a"), ["exact h.symm"]).verified
    assert lean.check(Theorem("v", "(xs : List α) : xs ++ [] = xs"), ["induction xs", "rfl", "simp"]).verified


def test_heartbeats_stop_a_tactic_and_nothing_else(lean: EmbeddedLean) -> None:
    sums = begun(lean, Theorem("s", "(a b c d : Nat) (h : a + b < c) (k : c + a < d) : a + b + a < d"))
    before = lean.heartbeats
    assert lean.run_tac(sums, "omega") == ProofFinished()
    lean.heartbeats = 5
    try:
        stopped = lean.run_tac(sums, "omega")
    finally:
        lean.heartbeats = before
    assert isinstance(stopped, LeanError) and stopped.kind == "timeout"
    deep = lean.run_tac(begun(lean, OR), "repeat (have := hp)")
    assert isinstance(deep, LeanError) and deep.kind == "tactic" and "recursion" in deep.message
    assert lean.check(OR, ["left", "exact hp"]).verified


def test_wall_time_kills_and_the_next_call_starts_again(lean: EmbeddedLean) -> None:
    state, before = begun(lean, LONG), lean.timeout
    lean.timeout = 1.0
    try:
        with pytest.raises(BackendTimeout, match="within 1 s"):
            lean.run_tac(state, "decide +kernel")
    finally:
        lean.timeout = before
    with pytest.raises(BackendFault, match="stale"):
        lean.run_tac(state, "left")
    assert lean.run_tac(begun(lean, OR), "exact Or.inl hp") == ProofFinished()


def test_a_killed_process_is_a_fault_and_replaced(lean: EmbeddedLean) -> None:
    state = begun(lean, OR)
    assert lean._process is not None
    os.killpg(lean._process._process.pid, signal.SIGKILL)
    with pytest.raises(BackendFault, match="ended"):
        lean.run_tac(state, "left")
    assert lean.check(OR, ["left", "exact hp"]).verified


def test_released_states_are_forgotten(lean: EmbeddedLean) -> None:
    held = int(lean._ask({"cmd": "ping"})["states"])
    states = [begun(lean, OR) for _ in range(5)]
    assert lean._ask({"cmd": "ping"})["states"] == held + 5
    lean.release(states)
    assert lean._ask({"cmd": "ping"})["states"] == held
    with pytest.raises(BackendFault, match="unknown state"):
        lean.run_tac(states[0], "left")


def test_files_are_taken_apart(lean: EmbeddedLean) -> None:
    source = (
        "import Init\nnamespace A\nvariable (p q : Prop)\n/-- Swaps. -/\n"
        "theorem Nat.t (h : p ∧ q) : q ∧ p := by\n  constructor\n  · exact h.2\n  · exact h.1\nend A\n"
    )
    found = lean.read_source(source)
    assert not isinstance(found, LeanError) and found[0].name == "Nat.t" and found[0].imports == ("Init",)
    assert lean.check(*found).verified
    for text in (
        "example (p : Prop) (h : p) : p :=\n  h",
        "theorem t : 1 = 1 := rfl",
        "theorem t : 0 < 2 :=\n  have h : 0 < 1 := Nat.one_pos\n  Nat.lt_succ_of_lt h",
    ):
        term = lean.read_source(text)
        assert not isinstance(term, LeanError) and lean.check(*term).verified
    wrong = lean.read_source("theorem t : 1 = 2 := by\n  rfl")
    assert not isinstance(wrong, LeanError) and not lean.check(*wrong).verified


@pytest.mark.parametrize(
    "before",
    [
        'macro "magic" : tactic => `(tactic| sorry)',
        "#eval 1",
        "axiom false : False",
        "theorem bad : 1 = 2 := sorry",
        "@[command_elab foo] def f := 1",
        'open Lean in run_cmd logInfo "a"',
        "@[implemented_by Nat.add] def f (a b : Nat) := a",
    ],
)
def test_files_that_would_run_code_are_refused(lean: EmbeddedLean, before: str) -> None:
    found = lean.read_source(f"{before}\ntheorem t : 1 = 1 := rfl")
    assert isinstance(found, LeanError), found


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ('local infix:50 " = " => fun (_ _ : Nat) => True', "may not give '=' another meaning"),
        ('local notation "∀" x => x', "may not give '∀' another meaning"),
        ('macro "rfl" : tactic => `(tactic| trivial)', "'macro'"),
        ('#eval IO.println "here"', "'#eval'"),
        ("attribute [reducible] Nat.add", "'attribute'"),
    ],
)
def test_contexts_that_run_code_or_redefine_are_refused(lean: EmbeddedLean, command: str, word: str) -> None:
    result = lean.start(Theorem("t", ": 1 = 2", ("variable (p : Prop)", command)))
    assert isinstance(result, LeanError) and result.kind == "statement" and word in result.message
    assert not lean.check(Theorem("t", ": 1 = 2", (command,)), ["trivial"]).verified


def test_a_new_sign_may_be_declared(lean: EmbeddedLean) -> None:
    theorem = Theorem("t", "(n : Nat) : n ≈≈ n", ('local infix:50 " ≈≈ " => fun (a b : Nat) => a = b',))
    assert lean.check(theorem, ["rfl"]).verified


@pytest.mark.parametrize("tactic", ["sleep 60000", "all_goals sleep 60000", "exact (by sleep 9 : p)"])
def test_no_tactic_sleeps(lean: EmbeddedLean, tactic: str) -> None:
    result = lean.run_tac(begun(lean, OR), tactic)
    assert isinstance(result, LeanError) and result.kind == "forbidden" and "sleep" in result.message


BUSY = """
import sys
from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.lean_types import Theorem
lean = EmbeddedLean()
state = lean.start(Theorem("t", ": (List.range 300000).foldl (· + ·) 0 = 3"))
print(lean._process._process.pid, flush=True)
lean.run_tac(state, "decide +kernel")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read from /proc")
def test_a_busy_process_does_not_outlive_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    state = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    time.sleep(1.0)
    assert state.read_text().split()[2] == "R", "Lean is at work"
    parent.kill()
    parent.wait()
    killed = time.monotonic()
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() - killed < 10:
        time.sleep(0.05)
    assert time.monotonic() - killed < 2.0
