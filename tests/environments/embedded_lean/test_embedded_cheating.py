"""No proof, no reward: attempts to cheat the embedded Lean, with no rules on text before it.

Where it can be shown, the same attempt passes once a planted error switches the guard off, so the test can fail.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean
from lightning_gfn.environments.embedded_lean.lean_process import FILES, lean_command
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, TacticState, Theorem

pytestmark = pytest.mark.lean
FALSE = Theorem("false", ": 1 = 2")
SKIP_KERNEL = "set_option debug.skipKernelTC true in decide +kernel"
CHEATS = {
    "sorry": "sorry",
    "sorry in a term": "exact (sorry : 1 = 2)",
    "admit": "admit",
    "sorry by its name": "exact sorryAx _ false",
    "stop": "stop rfl",
    "the kernel switched off": SKIP_KERNEL,
    "the kernel switched off in a lemma": f"have h : 1 = 2 := by {SKIP_KERNEL}\nexact h",
    "compiled code": "native_decide",
    "compiled code by a setting": "decide +native",
    "compiled code by a longer setting": "decide (config := { native := true })",
    "compiled code, said to be false": "exact absurd (Lean.ofReduceBool (1 == 2) true rfl) (by decide)",
    "an axiom of compiled code": "exact (Lean.trustCompiler.elim : 1 = 2)",
    "a new axiom behind the proof": "rfl\n\naxiom cheat : 1 = 2",
    "a command behind the proof": "skip\n#eval 1",
    "the end of the theorem": "trivial\ntheorem other : 1 = 1 := by\n  rfl",
    "a macro": 'macro "rfl" : tactic => `(tactic| sorry)',
    "Lean code": "run_tac Lean.Elab.Tactic.setGoals []",
    "Lean code that prunes": "run_tac do\n  Lean.Elab.Tactic.setGoals []",
    "Lean code in a term": "exact by_elab return Lean.mkConst ``True",
    "Lean code in a setting": 'simp (config := Id.run (dbgTrace "x" fun _ => {}))',
    "an answer of one's own": 'simp (maxSteps := dbgTrace "@@{}" fun _ => 3)',
    "unsafe code": "exact unsafe (unsafeCast rfl)",
    "a file": 'exact absurd (include_str "/etc/passwd") sorry',
    "itself": "exact _statement",
    "recursion": "let rec f : (n : Nat) → 1 = 2 := fun n => f n\nexact f 0",
    "recursion with an attribute": "let rec @[implemented_by Nat.succ] f (n : Nat) : 1 = 2 := f n\nexact f 0",
    "a hole": "exact ?_",
    "a hole that is not a goal": "refine absurd ?a ?b\nall_goals exact ?c",
    "an open namespace": "open Classical in exact choice ⟨rfl⟩",
    "another error": "exact (rfl : 1 = 1)",
    "decide": "decide",
    "the kernel": "decide +kernel",
    "no goals": "all_goals (try skip)",
    "nothing": "skip",
}


@pytest.mark.parametrize("tactic", CHEATS.values(), ids=CHEATS.keys())
def test_cheats_prove_nothing(lean: EmbeddedLean, tactic: str) -> None:
    state = lean.start(FALSE)
    assert isinstance(state, TacticState)
    result = lean.run_tac(state, tactic)
    assert not isinstance(result, ProofFinished)
    verdict = lean.check(FALSE, [tactic])
    assert not verdict.verified and verdict.message
    assert not lean.check(FALSE, tactic.splitlines()).verified


def test_text_that_is_no_tactic_cannot_end_the_declaration(lean: EmbeddedLean) -> None:
    true = Theorem("true", ": 1 = 1")
    assert lean.check(true, ["rfl"]).verified
    for text in (
        "rfl\n\naxiom a : False",
        "rfl\nend",
        "rfl)",
        "rfl\n#print axioms",
        "rfl\ntheorem x : True := trivial",
    ):
        assert not lean.check(true, [text]).verified, text


def test_bogus_context_does_not_prove(lean: EmbeddedLean) -> None:
    assert lean.check(Theorem("a", ": 1 = 2", ("axiom a : 1 = 2",)), ["exact a"]) == CheckResult(
        False, "the proof rests on a, which is no axiom of Lean's", ("a",)
    )
    lemma = "theorem bad : 1 = 2 := by sorry"
    assert "sorryAx" in lean.check(Theorem("s", ": 1 = 2", (lemma,)), ["exact bad"]).message
    skipped = "set_option debug.skipKernelTC true in\ntheorem bad : 1 = 2 := by decide +kernel"
    refused = lean.start(Theorem("k", ": 1 = 2", (skipped,)))
    assert isinstance(refused, LeanError) and "kernel" in refused.message


def test_a_macro_of_the_context_is_refused(lean: EmbeddedLean) -> None:
    theorem = Theorem("m", ": 1 = 2", ('macro "magic" : tactic => `(tactic| sorry)',))
    result = lean.start(theorem)
    assert isinstance(result, LeanError) and result.kind == "statement" and "'macro'" in result.message
    assert not lean.check(theorem, ["magic"]).verified


def test_honest_proofs_pass(lean: EmbeddedLean) -> None:
    assert lean.check(Theorem("k", ": 2 ^ 10 = 1024"), ["decide +kernel"]).verified
    assert lean.check(Theorem("o", "(a b : Nat) : a + b = b + a"), ["omega"]).verified
    assert lean.check(Theorem("s", "(p q : Prop) : p ∧ q → q"), ["simp +contextual"]).verified
    assert lean.check(
        Theorem("m", "(b : Bool) : (match b with | true => 1 | false => 1) = 1"), ["cases b <;> rfl"]
    ).verified


class Planted(EmbeddedLean):
    """A backend with an error planted into its Lean files."""

    files = FILES

    def _command(self) -> list[str]:
        from lightning_gfn.environments.embedded_lean.install import find

        installed = find()
        return lean_command(installed.node, installed.folder, self.files)


def planted(folder: Path, changes: dict[str, str]) -> Planted:
    """A backend whose proof.lean has been changed."""
    shutil.copytree(FILES, folder)
    path = folder / "proof.lean"
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    backend = Planted(start_timeout=600, timeout=120)
    backend.files = folder
    return backend


NO_GUARD = {"if let some text := refused barred stx then throw": "if let some text := refused [] stx then throw"}
NO_REPLAY = {
    "return (addChecked p'.core.env p.kernel (.thmInfo thm) (units heartbeats)).map (axiomsOf · thm.name)": (
        "let _ := thm\n    return .ok #[]"
    )
}


@pytest.fixture(scope="module")
def unguarded(lean: EmbeddedLean, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """Without the guard on words: what the replay alone refuses."""
    lean.close()
    backend = planted(tmp_path_factory.mktemp("files") / "unguarded", NO_GUARD)
    yield backend
    backend.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sorry", "the kernel switched off", "the kernel switched off in a lemma", "native"])
def test_the_replay_alone_refuses(unguarded: Planted, name: str) -> None:
    verdict = unguarded.check(FALSE, [CHEATS.get(name, "native_decide")])
    assert not verdict.verified


@pytest.mark.slow
def test_without_replay_the_cheat_passes(unguarded: Planted, tmp_path: Path) -> None:
    unguarded.close()
    backend = planted(tmp_path / "files", NO_GUARD | NO_REPLAY)
    try:
        assert backend.check(FALSE, [SKIP_KERNEL]).verified, "the cheat no longer shows that the replay is needed"
        axiom = Theorem("a", ": 1 = 2", ("axiom a : 1 = 2",))
        assert backend.check(axiom, ["exact a"]).verified
    finally:
        backend.close()
