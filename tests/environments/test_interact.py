"""The Lean REPL through lean-interact: its own requests and responses, a stub in place of its process."""

from __future__ import annotations

import copy
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.interact import LeanInteractBackend
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.environments.whole_proofs import judge_axioms, refusal, source
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout
from lightning_gfn.lean_types import LeanError, ProofFinished, TacticState, Theorem

OR = Theorem("or", "(p q : Prop) (h : p) : p ∨ q")


def test_axioms_are_read_from_what_lean_prints() -> None:
    assert judge_axioms("'x' does not depend on any axioms").verified
    standard = judge_axioms("'x' depends on axioms: [propext,\n Classical.choice,\n Quot.sound]")
    assert standard.verified and standard.axioms == ("Classical.choice", "Quot.sound", "propext")
    for report in ("'x' depends on axioms: [propext, sorryAx]", "'x' depends on axioms: [Lean.ofReduceBool]", ""):
        assert not judge_axioms(report).verified


@pytest.mark.parametrize(
    ("tactic", "word"),
    [
        ("set_option debug.skipKernelTC true in decide +kernel", "set_option"),
        ("trivial\naxiom x : False", "axiom"),
        ("trivial\n  theorem y : True := trivial", "theorem"),
        ("trivial #eval 1", "#eval"),
        ("exact sorry", "sorry"),
        ("native_decide", "native_decide"),
        ('exact h -- theorem "', None),
        ("intro theorem'", None),
        ("simp [Nat.add_comm, #[1].size]", None),
    ],
)
def test_scripts_that_say_more_than_tactics_are_refused(tactic: str, word: str | None) -> None:
    message = refusal(["intro h", tactic])
    assert message is None if word is None else message is not None and f"'{word}'" in message


def test_source_keeps_lines_of_a_tactic_together() -> None:
    text = source("x", ": p", ["intro h", "cases h with\n| inl a => exact a"])
    assert text == "theorem x : p := by\n  intro h\n  cases h with\n  | inl a => exact a\n"


class StubServer:
    """Answers as the REPL does; the logic is that of the fake Lean."""

    started = 0
    axioms = "does not depend on any axioms"

    def __init__(self, config: Any) -> None:
        StubServer.started += 1
        self.config, self.lean_version, self.fake = config, "v4.25.0", FakeLean()
        self.states: list[Any] = []
        self.longest = 0
        self.alive = True

    def kill(self) -> None:
        self.alive = False

    def get_memory_usage(self) -> float:
        return 3.0

    def run(self, request: Any, *, timeout: float) -> Any:
        from lean_interact.interface import Command, ProofStep

        if not self.alive:
            raise ChildProcessError("The Lean server is not running.")
        self.longest = max(self.longest, len(request.model_dump_json()))
        if isinstance(request, Command):
            return self.command(request.cmd)
        assert isinstance(request, ProofStep)
        return self.step(request)

    def command(self, text: str) -> Any:
        from lean_interact.interface import CommandResponse

        found = re.fullmatch(r"theorem (\w+) (.*?) := by\n(.*)", text, re.DOTALL)
        if found is None:
            data = f"'x' {self.axioms}" if text.startswith("#print axioms lightning_gfn_") else ""
            return CommandResponse.model_validate({"env": 1, "messages": [message("info", data)] if data else []})
        theorem, script = Theorem("t", found[2]), textwrap.dedent(found[3]).strip().split("\n")
        state = self.fake.start(theorem)
        if isinstance(state, LeanError):
            return CommandResponse.model_validate({"env": 1, "messages": [message("error", state.message)]})
        if script == ["sorry"]:
            self.states.append(state)
            hole = {"goal": state.text, "proofState": len(self.states) - 1, "pos": {"line": 1, "column": 1}}
            warning = message("warning", "declaration uses 'sorry'")
            return CommandResponse.model_validate({"env": 1, "sorries": [hole], "messages": [warning]})
        verdict = self.fake.check(theorem, script)
        said = [] if verdict.verified else [message("error", verdict.message)]
        return CommandResponse.model_validate({"env": 2, "messages": said})

    def step(self, request: Any) -> Any:
        from lean_interact.interface import LeanError as ReplError, ProofStepResponse

        if request.tactic == "exact slow":
            self.kill()
            raise TimeoutError("The Lean server did not respond in time")
        if request.tactic == "exact bomb":
            self.kill()
            raise ConnectionAbortedError("The Lean server closed unexpectedly.")
        answer = {"proofState": len(self.states), "proofStatus": "Completed", "goals": []}
        if request.tactic == "sorry":
            answer["proofStatus"] = "Incomplete: contains sorry"
        elif request.tactic == "exact half":
            answer["proofStatus"] = "Incomplete: contains metavariable(s)"
        elif request.tactic not in ("exact forged", "trivial\naxiom x : False"):
            result = self.fake.run_tac(self.states[request.proof_state], request.tactic)
            if isinstance(result, LeanError):
                return ReplError(message=f"Lean error:\n{result.message}")
            if isinstance(result, TacticState):
                answer.update(proofStatus="Incomplete: open goals remain", goals=list(result.goals))
                self.states.append(result)
        return ProofStepResponse.model_validate(answer)


def message(severity: str, data: str) -> dict[str, Any]:
    return {"severity": severity, "data": data, "pos": {"line": 1, "column": 0}}


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeanInteractBackend]:
    package = pytest.importorskip("lean_interact", reason="lean-interact is not installed (extra `lean`)")
    monkeypatch.setattr(package, "LeanServer", StubServer)
    monkeypatch.setattr(package, "LeanREPLConfig", lambda **settings: settings)
    monkeypatch.setattr(StubServer, "started", 0)
    made = LeanInteractBackend()
    yield made
    made.close()


def begin(backend: LeanInteractBackend) -> TacticState:
    state = backend.start(OR)
    assert isinstance(state, TacticState), state
    return state


def test_a_proof(backend: LeanInteractBackend) -> None:
    first = begin(backend)
    assert first.text == "p q : Prop\nh : p\n⊢ p ∨ q"
    second = backend.run_tac(first, "left")
    assert isinstance(second, TacticState) and second.goals == ("case h\np q : Prop\nh : p\n⊢ p",)
    assert backend.run_tac(second, "exact h") == ProofFinished()
    assert backend.run_tac(first, "left") == second
    assert backend.version == "v4.25.0" and backend.resident_bytes() == 3 * 2**20


@pytest.mark.parametrize(
    ("tactic", "kind", "text"),
    [
        ("exact h", "tactic", "Type mismatch"),
        ("", "tactic", "no tactic"),
        ("sorry", "forbidden", "sorry"),
        ("exact half", "unsound", "metavariable"),
        ("exact forged", "unsound", "Unknown identifier"),
        ("trivial\naxiom x : False", "unsound", "'axiom'"),
    ],
)
def test_errors_are_values(backend: LeanInteractBackend, tactic: str, kind: str, text: str) -> None:
    result = backend.run_tac(begin(backend), tactic)
    assert isinstance(result, LeanError) and result.kind == kind and text in result.message


def test_axioms_decide(backend: LeanInteractBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    script = ["left", "exact h"]
    assert backend.check(OR, script).verified and not backend.check(OR, script[:1]).verified
    monkeypatch.setattr(StubServer, "axioms", "depends on axioms: [propext]")
    assert backend.check(OR, script).axioms == ("propext",)
    monkeypatch.setattr(StubServer, "axioms", "depends on axioms: [sorryAx]")
    assert not backend.check(OR, script).verified


def test_statements_that_are_none(backend: LeanInteractBackend) -> None:
    for statement in ("(n : Nat) : n = n", ""):
        result = backend.start(Theorem("t", statement))
        assert isinstance(result, LeanError) and result.kind == "statement"


def test_long_texts_are_refused_before_the_repl_sees_them(backend: LeanInteractBackend) -> None:
    first, long = begin(backend), "exact h -- " + "x" * 20_000
    result = backend.run_tac(first, long)
    assert isinstance(result, LeanError) and result.kind == "forbidden" and "max_chars=20000" in result.message
    assert "the proof has 20015" in backend.check(OR, ["left", long]).message
    assert isinstance(backend.start(Theorem("t", OR.statement, ("-- " + "x" * 200_000,))), LeanError)
    assert backend._server.longest < 1000


@pytest.mark.parametrize(("tactic", "fault"), [("exact slow", BackendTimeout), ("exact bomb", BackendFault)])
def test_faults(backend: LeanInteractBackend, tactic: str, fault: type[Exception]) -> None:
    first = begin(backend)
    with pytest.raises(fault, match="lean-interact"):
        backend.run_tac(first, tactic)
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(first, "left")
    assert isinstance(backend.run_tac(begin(backend), "left"), TacticState) and StubServer.started == 2


def test_released_states_are_stale_and_copies_start_anew(backend: LeanInteractBackend) -> None:
    first = begin(backend)
    assert copy.deepcopy(backend)._server is None
    backend.release([first])
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(first, "left")


def test_the_pool_runs_it(backend: LeanInteractBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeanInteractBackend, "unavailable", lambda: None)
    pool = LeanPool(backend, num_workers=2)
    pool.setup()
    assert pool.run_tac(OR, ["left"], "exact h").result() == ProofFinished()
    assert pool.describe() == {"backend": "lean-interact", "lean_version": "v4.25.0"}
    pool.close()


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    reason = LeanInteractBackend.unavailable()
    assert reason is not None and "elan" in reason
    with pytest.raises(ValueError, match="timeout=0"):
        LeanInteractBackend(timeout=0)
    with pytest.raises(ValueError, match="leave out lean_version"):
        LeanInteractBackend(project="x", lean_version="v4.25.0")
