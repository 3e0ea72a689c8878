"""``doctor``: what is there, what is missing and what that would give; it never fails."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from lightning_gfn import cli
from lightning_gfn.commands.doctor_parts import machine, software
from lightning_gfn.commands.doctor_parts.findings import WIDTH, Finding, table


def test_everything_is_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIGHTNING_GFN_CACHE", str(tmp_path / "nowhere"))
    assert cli.main(["doctor", "--json", "--quick"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["section"], row["name"]): row for row in found["findings"]}
    assert {section for section, _ in rows} == {"Machine", "Disk", "Software", "Lean", "Models", "MLflow"}
    assert not [row for row in rows.values() if row["name"] == "fault"]
    model = rows["Models", "smollm2-135m"]
    assert model["state"] == "missing" and model["command"] == "lightning-gfn model install smollm2-135m"
    assert rows["Lean", "embedded"]["command"] == "lightning-gfn lean install"
    missing = [row for row in rows.values() if row["state"] in ("missing", "needed")]
    assert all(row["gives"] for row in missing) and found["missing"] == len(missing) >= 3
    assert "products measured" not in rows["Machine", "bfloat16"]["value"]


def test_it_is_readable_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "products measured on one core: float32 " in " ".join(text.split()), "however its line is broken"
    assert "GFLOP/s" in text and "MLflow\n" in text


def test_a_fault_in_one_part_leaves_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("driver mismatch")

    monkeypatch.setattr(machine, "examine_gpus", broken)
    assert cli.main(["doctor", "--quick"]) == 0
    text = capsys.readouterr().out
    assert "RuntimeError: driver mismatch" in text and "tracking" in text


def test_an_mlflow_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    (found,) = software.examine_mlflow()
    assert found.state == "missing" and "no answer" in found.value and f":{port}" in found.value
    assert "mlflow server" in found.command


def test_stores_on_disk_need_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.store_fault(f"sqlite:///{tmp_path}/new/mlflow.db") is None
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "cannot be written" in str(software.store_fault(f"sqlite:///{tmp_path}/new/mlflow.db"))


def test_packages_outside_their_range_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=1000", "nonesuch>=1", "packaging>=1", 'trl>=1000; extra == "bench"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    found = {one.name: one for one in software.examine_packages()}
    assert found["required"].state == "needed" and found["required"].value.startswith("1 of 3 packages fit")
    assert found["numpy"].command == "pip install 'numpy>=1000'" and found["nonesuch"].value.startswith("not installed")
    assert (
        found["extra bench"].state == "missing" and found["extra bench"].command == "pip install 'lightning-gfn[bench]'"
    )


def test_lines_stay_within_a_terminal() -> None:
    text = table(
        [Finding("A", "thing", "missing", "word " * 60, "gives " * 60, "a command"), Finding("B", "b", "ok", "c")]
    )
    assert max(map(len, text.splitlines())) <= WIDTH and "\n\nB\n" in text


def test_memory_and_cores_are_plausible() -> None:
    assert 1 <= machine.available_cores() <= 4096
    assert 0 <= machine.available_memory() <= machine.total_memory()
