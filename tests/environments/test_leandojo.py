"""LeanDojo's own ``Dojo`` against a program that speaks its protocol in place of ``lake env lean``."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.environments import leandojo
from lightning_gfn.environments.leandojo import LeanDojoBackend
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout
from lightning_gfn.lean_types import LeanError, Location, ProofFinished, TacticState, Theorem

leandojo.make_cache_folder()  # workers that collect these tests together would import it together
lean_dojo = pytest.importorskip("lean_dojo")
STATEMENTS = {
    "Logic.or": "(p q : Prop) (h : p) : p ∨ q",
    "Logic.and": "(p q : Prop) (hp : p) (hq : q) : p ∧ q",
    "Logic.unstatable": "(n : Nat) : n = n",
}
LAKE = """
import json, sys, time
from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.lean_types import LeanError, ProofFinished, Theorem

assert sys.argv[1:3] == ["env", "lean"], sys.argv
backend, states = FakeLean(), {}

def reply(result):
    sid, text, error = -1, None, None
    if isinstance(result, LeanError):
        error = result.message
    else:
        sid = len(states)
        states[sid] = result
        text = "no goals" if isinstance(result, ProofFinished) else result.text
        if text.count("\\u22a2") > 1:
            text = f"{text.count(chr(0x22a2))} goals\\n{text}"
    print("REPL> " + json.dumps({"sid": sid, "tacticState": text, "error": error}, ensure_ascii=False), flush=True)

state = backend.start(Theorem("t", open(sys.argv[-1]).read()))
if isinstance(state, LeanError):
    print("error: " + state.message)
    sys.exit(1)
reply(state)
for line in sys.stdin:
    request = json.loads(line)
    if request["cmd"] == "exact bomb":
        sys.exit(137)
    if request["cmd"] == "exact slow":
        time.sleep(60)
    if request["cmd"] == "sorry":
        reply(LeanError("the proof contains `sorry`"))
    elif request["cmd"] == "simp":
        reply(LeanError("(deterministic) timeout at `whnf`, maximum number of heartbeats (200000) has been reached"))
    elif request["cmd"] == "exact forged" or "set_option" in request["cmd"]:
        reply(ProofFinished())
    else:
        reply(backend.run_tac(states[request["sid"]], request["cmd"]))
"""


def theorem(name: str) -> Theorem:
    return Theorem(name, "", location=Location("https://example.org/logic", "0" * 40, "Logic.lean", name))


class UntracedDojo(lean_dojo.Dojo):  # type: ignore[misc]
    """The real one, but for what it reads of a traced repository."""

    opened = 0

    def _locate_traced_file(self, traced_repo_path: Path) -> Any:
        return types.SimpleNamespace(has_prelude=False)

    def _modify_file(self, traced_file: Any) -> None:
        UntracedDojo.opened += 1
        if self.entry.full_name not in STATEMENTS:
            raise lean_dojo.DojoInitError(f"Failed to locate the theorem with `{self.entry.full_name}`")
        self.modified_file = tempfile.NamedTemporaryFile("wt", dir=os.environ["TRACED"]).__enter__()  # noqa: SIM115
        self.modified_file.write(STATEMENTS[self.entry.full_name])
        self.modified_file.flush()


@pytest.fixture(autouse=True)
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A traced repository, and ``lake`` on the PATH."""
    repository, programs = tmp_path / "repository", tmp_path / "bin"
    repository.mkdir()
    programs.mkdir()
    (repository / "Lean4Repl.lean").touch()
    (programs / "lake.py").write_text(LAKE)
    (programs / "lake").write_text(f'#!/bin/sh\nexec {sys.executable} {programs / "lake.py"} "$@"\n')
    (programs / "lake").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("TRACED", str(repository))
    monkeypatch.setattr(lean_dojo.interaction.dojo, "get_traced_repo_path", lambda *_: repository)
    monkeypatch.setattr(lean_dojo, "Dojo", UntracedDojo)
    monkeypatch.setattr(
        lean_dojo,
        "LeanGitRepo",
        lambda url, commit: types.SimpleNamespace(url=url, commit=commit, lean_version="v4.9.0"),
    )
    UntracedDojo.opened = 0
    yield


@pytest.fixture
def backend() -> Iterator[LeanDojoBackend]:
    made = LeanDojoBackend(timeout=20)
    yield made
    made.close()


def begin(backend: LeanDojoBackend, name: str = "Logic.or") -> TacticState:
    state = backend.start(theorem(name))
    assert isinstance(state, TacticState), state
    return state


def test_a_proof(backend: LeanDojoBackend) -> None:
    first = begin(backend, "Logic.and")
    assert first.text == "p q : Prop\nhp : p\nhq : q\n⊢ p ∧ q"
    second = backend.run_tac(first, "constructor")
    assert isinstance(second, TacticState) and len(second.goals) == 2 and second.goals[0].startswith("case left")
    third = backend.run_tac(second, "exact hp")
    assert isinstance(third, TacticState) and third.goals == second.goals[1:]
    assert backend.run_tac(third, "exact hq") == ProofFinished()
    assert UntracedDojo.opened == 2, "the finished proof is run again in a process of its own"
    assert backend.run_tac(second, "exact hp") == third, "states are immutable"
    assert backend.version == "v4.9.0"


def test_errors_are_values(backend: LeanDojoBackend) -> None:
    first = begin(backend)
    for tactic, kind, message in (
        ("exact h", "tactic", "Type mismatch"),
        ("sorry", "forbidden", "sorry"),
        ("simp", "timeout", "heartbeats"),
    ):
        result = backend.run_tac(first, tactic)
        assert isinstance(result, LeanError) and result.kind == kind and message in result.message


def test_a_forged_proof_is_unsound(backend: LeanDojoBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin(backend)
    cheat = "set_option debug.skipKernelTC true in decide +kernel"
    result = backend.run_tac(first, cheat)
    assert isinstance(result, LeanError) and result.kind == "unsound" and "set_option" in result.message
    monkeypatch.setattr(leandojo, "refusal", lambda script: None)
    assert backend.run_tac(first, cheat) == ProofFinished(), "only the text stands between this cheat and a reward"


@pytest.mark.parametrize(
    ("name", "script", "verified"),
    [
        ("Logic.or", ["left", "exact h"], True),
        ("Logic.or", ["left"], False),
        ("Logic.or", ["left", "exact h", "exact h"], False),
        ("Logic.or", ["right", "exact h"], False),
        ("Logic.or", [], False),
        ("Logic.or", ["left", "exact h\ntheorem x : True"], False),
        ("Logic.missing", ["left"], False),
    ],
)
def test_check(backend: LeanDojoBackend, name: str, script: list[str], verified: bool) -> None:
    result = backend.check(theorem(name), script)
    assert result.verified == verified and bool(result.message) != verified
    assert backend.resident_bytes() == 0, "its process has ended"


@pytest.mark.parametrize("name", ["Logic.missing", "Logic.unstatable"])
def test_theorems_that_cannot_be_started(backend: LeanDojoBackend, name: str) -> None:
    result = backend.start(theorem(name))
    assert isinstance(result, LeanError) and result.kind == "statement" and name in result.message


def test_a_statement_without_location_is_refused(backend: LeanDojoBackend) -> None:
    result = backend.start(Theorem("alone", ": True"))
    assert isinstance(result, LeanError) and result.kind == "statement" and "EmbeddedLean" in result.message


def test_a_state_after_a_timeout_is_dead() -> None:
    backend = LeanDojoBackend(timeout=2)
    state = begin(backend)
    with pytest.raises(BackendTimeout, match="within 2 s"):
        backend.run_tac(state, "exact slow")
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(state, "left")
    assert isinstance(backend.run_tac(begin(backend), "left"), TacticState)
    backend.close()


def test_a_crash_is_a_fault(backend: LeanDojoBackend) -> None:
    state = begin(backend)
    with pytest.raises(BackendFault, match="LeanDojo"):
        backend.run_tac(state, "exact bomb")
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(state, "left")


def test_only_so_many_theorems_stay_open() -> None:
    backend = LeanDojoBackend(timeout=20, max_open=1)
    first = begin(backend)
    second = begin(backend, "Logic.and")
    assert backend.resident_bytes() > 0
    with pytest.raises(BackendFault, match="stale"):
        backend.run_tac(first, "left")
    assert isinstance(backend.run_tac(second, "constructor"), TacticState)
    backend.close()
    assert backend.resident_bytes() == 0


def test_a_copy_has_processes_of_its_own(backend: LeanDojoBackend) -> None:
    begin(backend)
    for other in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend))):
        assert other._open == {} and other.timeout == 20


def test_long_texts_are_refused_before_a_process_sees_them(backend: LeanDojoBackend) -> None:
    first, long = begin(backend), "exact h -- " + "x" * 20_000
    assert isinstance(backend.run_tac(first, "left"), TacticState) and UntracedDojo.opened == 1
    result = backend.run_tac(first, long)
    assert isinstance(result, LeanError) and result.kind == "forbidden" and "max_chars=20000" in result.message
    assert "the proof has 20015" in backend.check(theorem("Logic.or"), ["left", long]).message
    assert UntracedDojo.opened == 1, "a check would have opened a process of its own"


def test_the_pool_runs_it() -> None:
    pool = LeanPool(LeanDojoBackend(timeout=20, max_open=1), num_workers=2)
    pool.setup()
    first, second = theorem("Logic.or"), theorem("Logic.and")
    futures = [
        pool.run_tac(first, ["left"], "exact h"),
        pool.run_tac(second, ["constructor", "exact hp"], "exact hq"),
        pool.run_tac(first, [], "exact bomb"),
    ]
    results = [future.result() for future in futures]
    assert results[:2] == [ProofFinished()] * 2
    assert isinstance(results[2], LeanError) and results[2].kind == "fault"
    pool.close()


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert LeanDojoBackend.unavailable() is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    reason = LeanDojoBackend.unavailable()
    assert reason is not None and "git" in reason and "elan" in reason and "network" in reason
    with pytest.raises(ValueError, match="max_open=0"):
        LeanDojoBackend(max_open=0)


def test_the_cache_folder_is_made_before_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "deep" / "cache"))
    leandojo._lean_dojo()
    assert (tmp_path / "deep" / "cache").is_dir() and leandojo.make_cache_folder() == tmp_path / "deep" / "cache"
