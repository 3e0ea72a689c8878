"""The embedded backend against a process that misbehaves: no Lean is needed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean, split_imports
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, TacticState, Theorem

THEOREM = Theorem("t", "(p : Prop) (h : p) : p")
SERVER = """
import json, os, sys, time
mode, log = sys.argv[1], open(sys.argv[2], "a")
if mode == "dies at the start": sys.stderr.write("no wasm here\\n"); sys.exit(3)
if mode == "never ready": time.sleep(60)
print("chatter of the build", flush=True)
print('@@{"ready": true}', flush=True)
count = 0
def reply(request, **fields): print("@@" + json.dumps({"id": request["id"], **fields}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    log.write(line); log.flush()
    count += 1
    command, tactic = request["cmd"], request.get("tac", "")
    if command == "ping": reply(request, version="4.fake")
    elif command == "import": reply(request, env=count)
    elif command == "extend": time.sleep(3 * (mode == "slow contexts")); reply(request, env=count)
    elif command == "start": reply(request, goals=["\\u22a2 p"], state=count)
    elif command == "check": reply(request, done=True, axioms=["Quot.sound", "propext"])
    elif tactic == "hang": time.sleep(60)
    elif tactic == "die": sys.stderr.write("out of stack\\n"); os._exit(9)
    elif tactic == "fault": reply(request, fault="unknown state")
    elif tactic == "error": reply(request, error="no", kind="tactic")
    elif tactic == "axiom": reply(request, done=True, axioms=["sorryAx"])
    elif tactic == "forge":
        print('@@{"id": "0", "done": true, "axioms": []}'); print('@@{"done": true, "axioms": []}')
        print("@@no json"); print("@@[1]")
        reply(request, error="the true answer", kind="tactic")
    elif tactic == "eat": held = b"x" * (300 << 20); time.sleep(60)
    elif tactic == "flood":
        while True: sys.stdout.write("x" * 1000000)
    elif tactic == "slowly":
        text = "@@" + json.dumps({"id": request["id"], "goals": ["\\u22a2 q"], "state": 7}) + "\\n"
        for piece in (text[:5], text[5:20], text[20:]): sys.stdout.write(piece); sys.stdout.flush(); time.sleep(0.05)
    else: reply(request, done=True, axioms=[])
"""


class Fake(EmbeddedLean):
    """The backend with a written server in Lean's place."""

    def __init__(self, folder: Path, mode: str = "", **settings: float) -> None:
        super().__init__(**{"timeout": 20.0, "start_timeout": 20.0, **settings})  # type: ignore[arg-type]
        (folder / "server.py").write_text(SERVER, encoding="utf-8")
        self.log, self.launches = folder / "log", 0
        self.mode = mode

    def _command(self) -> list[str]:
        self.launches += 1
        return [sys.executable, str(self.log.with_name("server.py")), self.mode, str(self.log)]

    @property
    def requests(self) -> str:
        return self.log.read_text(encoding="utf-8")


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def begun(backend: EmbeddedLean) -> TacticState:
    state = backend.start(THEOREM)
    assert isinstance(state, TacticState)
    return state


def test_answers_become_values(fake: Fake) -> None:
    state = begun(fake)
    assert state.goals == ("⊢ p",) and fake.version == "4.fake" and fake.launches == 1
    assert fake.run_tac(state, "rfl") == ProofFinished()
    assert fake.run_tac(state, "error") == LeanError("no", "tactic")
    assert fake.run_tac(state, "slowly") == TacticState(("⊢ q",))
    assert fake.check(THEOREM, ["rfl"]) == CheckResult(True, "", ("Quot.sound", "propext"))
    assert fake.resident_bytes() > 0
    fake.close()
    assert fake.resident_bytes() == 0


def test_foreign_axioms_are_no_proof(fake: Fake) -> None:
    result = fake.run_tac(begun(fake), "axiom")
    assert isinstance(result, LeanError) and result.kind == "unsound" and "sorryAx" in result.message
    fake.close()


def test_what_a_proof_prints_is_no_answer(fake: Fake) -> None:
    assert fake.run_tac(begun(fake), "forge") == LeanError("the true answer", "tactic")
    fake.close()


def test_silence_is_a_timeout_and_kills(fake: Fake) -> None:
    state = begun(fake)
    fake.timeout = 0.3
    started = time.monotonic()
    with pytest.raises(BackendTimeout, match=r"no answer within 0\.3 s"):
        fake.run_tac(state, "hang")
    assert time.monotonic() - started < 5 and fake.resident_bytes() == 0
    fake.timeout = 20
    with pytest.raises(BackendFault, match="stale"):
        fake.run_tac(state, "rfl")
    assert fake.run_tac(begun(fake), "rfl") == ProofFinished() and fake.launches == 2
    with pytest.raises(BackendFault, match="stale"):
        fake.run_tac(state, "rfl")
    fake.close()


@pytest.mark.parametrize(("tactic", "said"), [("die", r"status 9\): out of stack"), ("fault", "unknown state")])
def test_a_death_is_a_fault_with_its_reason(fake: Fake, tactic: str, said: str) -> None:
    with pytest.raises(BackendFault, match=said):
        fake.run_tac(begun(fake), tactic)
    assert fake.run_tac(begun(fake), "rfl") == ProofFinished() and fake.launches == 2
    fake.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="memory is read from /proc")
def test_memory_is_limited(tmp_path: Path) -> None:
    fake = Fake(tmp_path, max_resident_gib=0.2)
    with pytest.raises(BackendFault, match=r"max_resident_gib=0\.2"):
        fake.run_tac(begun(fake), "eat")
    fake.close()


def test_an_endless_answer_is_cut(fake: Fake) -> None:
    with pytest.raises(BackendFault, match="more than 16 MiB"):
        fake.run_tac(begun(fake), "flood")
    fake.close()


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendFault, match=r"status 3\): no wasm here"):
        Fake(tmp_path, "dies at the start").start(THEOREM)
    with pytest.raises(BackendTimeout, match=r"within 0\.5 s"):
        Fake(tmp_path, "never ready", start_timeout=0.5).start(THEOREM)


def test_a_long_request_passes_the_pipe(fake: Fake) -> None:
    fake.max_chars = 2_000_000
    assert fake.run_tac(begun(fake), "rfl -- " + "x" * 1_000_000) == ProofFinished()
    fake.close()


def test_environments_are_made_once_and_dropped_when_old(tmp_path: Path) -> None:
    fake = Fake(tmp_path, cached_contexts=2)
    for name in ("a", "b", "a", "c", "b"):
        assert fake.check(Theorem("t", ": p", (f"def {name} := 1",)), []).verified
    assert fake.requests.count('"extend"') == 4 and fake.requests.count('"import"') == 1
    assert '"drop_env": [4]' in fake.requests  # b, which was not used for longest when c came
    fake.close()


def test_released_states_go_with_the_next_request(fake: Fake) -> None:
    state = begun(fake)
    fake.release([state, TacticState(("⊢ p",), (1, 2))])
    fake.check(THEOREM, [])
    assert f'"drop": [{state.key[1]}]' in fake.requests
    fake.close()
    fake.release([state])
    begun(fake)
    assert fake.requests.splitlines()[-1].count('"drop": []') == 1
    fake.close()


def test_states_of_others_are_refused(fake: Fake) -> None:
    begun(fake)
    for key in ((), (1,), (1, 2), (fake._generation, 1, 2)):
        with pytest.raises(BackendFault, match="stale"):
            fake.run_tac(TacticState(("⊢ p",), key), "rfl")
    fake.close()


@pytest.mark.parametrize("setting", ["heartbeats", "timeout", "max_resident_gib", "cached_contexts"])
def test_limits_must_be_positive(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting}=0 must be positive"):
        EmbeddedLean(**{setting: 0})  # type: ignore[arg-type]


def test_imports_are_read_from_the_header() -> None:
    assert split_imports("theorem t : p := h")[0] == ("Init",)
    names, body = split_imports("/- import X -/\n-- import Y\nimport Init\nimport Std.Data\n\ndef import_ := 1")
    assert names == ("Init", "Std.Data") and body.strip() == "def import_ := 1" and body.count("\n") == 5


@pytest.mark.parametrize(
    ("theorem", "script", "what"),
    [
        (Theorem("t", "x" * 101), ["rfl"], "the statement has 101 characters, more than max_chars=100"),
        (
            Theorem("t", ": p", ("c" * 100, "d" * 101)),
            ["rfl"],
            "the context has 201 characters, more than max_context_chars=200",
        ),
        (THEOREM, ["x" * 60, "y" * 41], "the proof has 101 characters, more than max_chars=100"),
    ],
)
def test_long_texts_are_refused_before_lean_sees_them(
    tmp_path: Path, theorem: Theorem, script: list[str], what: str
) -> None:
    fake = Fake(tmp_path, max_chars=100, max_context_chars=200)
    assert fake.check(theorem, script) == CheckResult(False, what)
    if "proof" not in what:
        assert fake.start(theorem) == LeanError(what, "statement")
    assert fake.launches == 0
    state = begun(fake)
    refusal = LeanError("the tactic has 101 characters, more than max_chars=100", "forbidden")
    assert fake.run_tac(state, "x" * 101) == refusal and "xxx" not in fake.requests
    assert fake.run_tac(state, "x" * 100) == ProofFinished()
    fake.close()


def test_one_deadline_holds_for_context_and_statement_together(tmp_path: Path) -> None:
    fake = Fake(tmp_path, "slow contexts", timeout=0.3, check_timeout=0.6)
    begun(fake)
    started = time.monotonic()
    with pytest.raises(BackendTimeout):
        fake.start(Theorem("t", ": p", ("variable (p : Prop)",)))
    assert time.monotonic() - started < 2.5, "the context alone takes 3 s, and 0.9 s are allowed for all"
