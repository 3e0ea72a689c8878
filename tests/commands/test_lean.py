"""The commands around Lean: what they say, and their exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from lightning_gfn import cli
from lightning_gfn.commands.lean_commands import doctor
from lightning_gfn.commands.lean_commands.check import read_row
from lightning_gfn.environments import embedded
from lightning_gfn.environments.embedded_lean import install as installing
from lightning_gfn.installation.json_lines import json_lines
from lightning_gfn.lean_interfaces import BackendFault, BackendUnavailable
from lightning_gfn.lean_types import CheckResult, LeanError, Theorem


class Written:
    """A backend that believes the tactic ``true`` alone."""

    version = "4.0.0, written"
    reason: ClassVar[str | None] = None
    gullible: ClassVar[bool] = False
    closed: ClassVar[int] = 0

    def __init__(self, **settings: float) -> None:
        self.settings = settings

    @classmethod
    def unavailable(cls) -> str | None:
        return cls.reason

    def check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        if script == ["die"]:
            raise BackendFault("the process ended")
        if script == ["constructor", "exact hp", "exact hq"] or script == ["true"] or self.gullible:
            return CheckResult(True, "", ("propext",) if script == ["true"] else ())
        return CheckResult(False, "tactic 1:\n  no")

    def read_source(self, source: str) -> tuple[Theorem, list[str]] | LeanError:
        return (Theorem("t", ": p"), [source]) if source else LeanError("no theorem in the file", "statement")

    def resident_bytes(self) -> int:
        return 1 << 30

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> type[Written]:
    backend = type("Backend", (Written,), {})
    monkeypatch.setattr(embedded, "EmbeddedLean", backend)
    return backend


def test_the_overview_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lean"]) == 0
    said = capsys.readouterr().out
    for name in ("install", "doctor", "check"):
        assert f"\n  {name} " in said
    assert cli.main(["lean", "instal"]) == 2
    assert "no subcommand 'instal'; expected one of" in capsys.readouterr().err


def test_doctor_tells_what_works_and_what_is_missing(
    written: type[Written], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"embedded": "lightning_gfn.environments.embedded.EmbeddedLean", "other": "lightning_gfn.nothing.Other"}
    monkeypatch.setattr(doctor, "BACKENDS", names)
    assert cli.main(["lean", "doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("embedded  yes    4.0.0  proved a theorem, refused sorry (0 s, 1.0 GiB)")
    assert lines[2].startswith("other     no") and "cannot be imported" in lines[2] and written.closed == 1
    assert cli.main(["lean", "doctor", "--quick"]) == 0 and written.closed == 1
    assert "available (not tried)" in capsys.readouterr().out
    written.gullible = True
    assert cli.main(["lean", "doctor"]) == 1 and "judges wrongly: it accepted sorry" in capsys.readouterr().out
    written.reason = "not installed; run: lightning-gfn lean install"
    assert cli.main(["lean", "doctor"]) == 1 and "run: lightning-gfn lean install" in capsys.readouterr().out


def test_doctor_names_classes_that_exist() -> None:
    for path in doctor.BACKENDS.values():
        finding = doctor.examine("x", path, live=False)
        assert "cannot be imported" not in finding.detail, path


def test_check_prints_verdicts(written: type[Written], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "proofs.jsonl"
    good, bad = (
        {"name": name, "statement": ": p", "proof": [proof]} for name, proof in (("a", "true"), ("b", "false"))
    )
    rows.write_text(json.dumps(good) + "\n\n" + json.dumps(good) + "\n")
    assert cli.main(["lean", "check", str(rows)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"proved  {rows}:3 a  axioms: propext", "2 of 2 proved"]
    rows.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    source, empty = tmp_path / "t.lean", tmp_path / "empty.lean"
    source.write_text("true")
    empty.write_text("")
    assert cli.main(["lean", "check", str(source), str(empty), str(rows)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"proved  {source} t  axioms: propext" and said[1] == f"REFUSED  {empty}  no theorem in the file"
    assert said[3] == f"REFUSED  {rows}:2 b  tactic 1: no" and said[-1] == "2 of 4 proved"
    assert written.closed == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "f.jsonl:1: not a line of JSON"),
        ("[]", "f.jsonl:1: expected a JSON object, found list"),
        ("{}", "f.jsonl:1: no field 'name'"),
        ('{"name": "a", "statement": ": p"}', "f.jsonl:1: no field 'proof'; expected name, statement, proof"),
        ('{"name": "a", "statement": 1, "proof": []}', "f.jsonl:1: field 'statement': expected a string"),
        ('{"name": "a", "statement": ": p", "proof": "rfl"}', "field 'proof': expected a list of strings, found 'rfl'"),
        ('{"name": "a", "statement": "", "proof": [], "context": [1]}', "field 'context': expected a list of strings"),
    ],
)
def test_wrong_rows_are_named(row: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(f"{row}\n")
    with pytest.raises(ValueError) as caught:
        for where, found in json_lines(tmp_path / "f.jsonl"):
            read_row(found, where)
    assert said in str(caught.value)


def test_check_says_what_it_cannot_do(
    written: type[Written], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lean", "check", str(tmp_path / "none.lean")]) == 2
    assert "none.lean" in capsys.readouterr().err and written.closed == 1
    dying = tmp_path / "dying.lean"
    dying.write_text("die")
    assert cli.main(["lean", "check", str(dying)]) == 2 and "the process ended" in capsys.readouterr().err


def test_install_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(archive: Path | None, with_node: bool, say: object) -> Path:
        raise BackendUnavailable(f"no network {archive} {with_node}")

    monkeypatch.setattr(installing, "install", refuse)
    assert cli.main(["lean", "install", "--archive", "a.tgz"]) == 1
    assert "error: no network a.tgz True" in capsys.readouterr().err


@pytest.mark.lean
def test_real_files_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = embedded.EmbeddedLean.unavailable()
    if reason is not None:
        pytest.skip(reason)
    good, bad = tmp_path / "good.lean", tmp_path / "bad.lean"
    good.write_text("theorem t (p q : Prop) (h : p ↔ q) : p = q := by\n  exact propext h\n", encoding="utf-8")
    bad.write_text("theorem t : 1 = 2 := by\n  native_decide\n", encoding="utf-8")
    assert cli.main(["lean", "check", str(good)]) == 0
    assert "axioms: propext" in capsys.readouterr().out
    assert cli.main(["lean", "check", str(good), str(bad)]) == 1
    assert "1 of 2 proved" in capsys.readouterr().out
