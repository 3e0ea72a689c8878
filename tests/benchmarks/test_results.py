"""The file of a run and its check against the baselines, with planted figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.frame import baselines, results
from benchmarks.frame.measure import measure
from benchmarks.frame.row import Contest, Floor, Options, Row, Seconds, Target, Way

BASELINES = {"amx": {"a": 4.0, "b": 2.0}, "any": {"c": 1.0}}


def row_of(name: str, value: float, **changes: Any) -> dict[str, Any]:
    return {"name": name, "status": "measured", "run": "r1", "ratio": value, **changes}


def results_of(*rows: dict[str, Any], kind: str = "amx") -> dict[str, Any]:
    return {"run": "r1", "machine": {"kind": kind}, "rows": list(rows)}


def check(found: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command's own check of a file."""
    (folder / "baselines.json").write_text(json.dumps(BASELINES))
    (folder / "results.json").write_text(json.dumps(found))
    monkeypatch.setattr(baselines.load, "__defaults__", (folder / "baselines.json",))
    return command.main(["--check-file", str(folder / "results.json")])


@pytest.mark.parametrize(
    ("value", "status"), [(4.0, 0), (3.41, 0), (3.39, 1), (0.1, 1), (9.0, 0)]
)  # 15% below 4.0 is 3.4
def test_a_fall_of_more_than_fifteen_per_cent_fails(
    value: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(results_of(row_of("a", value), row_of("b", 2.0)), tmp_path, monkeypatch) == status
    said = capsys.readouterr().out
    assert ("BELOW THE BASELINE: a:" in said) == bool(status)


def test_baselines_are_those_of_the_kind_of_processor() -> None:
    fallen = row_of("a", 1.0)
    assert len(baselines.faults(results_of(fallen), BASELINES)) == 1
    assert baselines.faults(results_of(fallen, kind="avx2"), BASELINES) == []
    assert baselines.unchecked(results_of(fallen, kind="avx2"), BASELINES) == [
        "a: no baseline for a processor of kind avx2"
    ]
    assert len(baselines.faults(results_of(row_of("c", 0.8), kind="avx2"), BASELINES)) == 1


def test_failed_rows_fail_the_check_and_rows_that_did_not_run_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"name": "a", "status": "failed", "reason": "ValueError: x"}
    missing = {"name": "b", "status": "not run", "reason": "trl is not installed"}
    assert check(results_of(missing), tmp_path, monkeypatch) == 0
    assert "not checked: b: not run: trl is not installed" in capsys.readouterr().out
    assert check(results_of(failed, missing), tmp_path, monkeypatch) == 1
    assert "FAILED: a failed: ValueError: x" in capsys.readouterr().out


def test_rows_of_another_run_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="row b is of run r0, the file of run r1: figures of different runs"):
        check(results_of(row_of("a", 4.0), row_of("b", 2.0, run="r0")), tmp_path, monkeypatch)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": "r", "machine": {"kind": "amx"}}'])
def test_what_is_no_file_of_results_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(results.ResultsError, match="is no file of results"):
        results.read(tmp_path / "x.json")


def test_the_file_of_a_run_holds_all_figures_and_can_become_a_baseline(tmp_path: Path) -> None:
    contest = Contest(
        ours=lambda: Way(lambda: Seconds(0.5)),
        peers={"peer": lambda: Way(lambda: Seconds(1.5))},
        amount=30.0,
        unit="tok",
        floor=lambda: Floor("products", 0.25),
    )
    met = measure(Row("a", "steps", lambda options: contest, Target(ratio=3.0, share=0.5)), Options(), "r1", {})
    gone = measure(Row("b", "steps", lambda options: contest, needs=[lambda: "no GPU"]), Options(), "r1", {})
    path = tmp_path / "new" / "results.json"
    results.write(path, "r1", {"machine": {"kind": "amx"}}, [met, gone])
    first, second = results.read(path)["rows"]
    assert (first["ratio"], first["share"], first["met"]) == (3.0, 0.5, True)
    assert (first["ours"], first["peer"], first["peer_setting"]) == ([0.5] * 3, [1.5] * 3, "peer")
    assert (second["status"], second["reason"]) == ("not run", "no GPU")
    assert baselines.updated(results.read(path), BASELINES)["amx"] == {"a": 3.0, "b": 2.0}
    lines = results.table([met, gone]).splitlines()
    assert lines[2] == (
        "| a | steps | 60 tok/s | 20 tok/s (peer) | 3.00 | 3.00–3.00 | products | 50% | "
        "≥ 3 and ≥ 50% of the floor | yes |"
    )
    assert "not run: no GPU" in lines[3]


def test_kept_baselines_name_rows_that_exist() -> None:
    from benchmarks.rows import ROWS

    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    kept = baselines.load()
    assert kept and {name for ratios in kept.values() for name in ratios} <= set(names)


def test_no_time_left_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("a", "steps", lambda options: Contest(ours=lambda: Way(lambda: None)))
    (outcome,) = command.run_rows([row], Options(), "r1", minutes=-1.0)
    assert outcome.reason is not None and "run it by name: python -m benchmarks a" in outcome.reason


def test_names_choose_rows_and_wrong_ones_are_refused() -> None:
    rows = [Row(name, name, lambda options: Contest(ours=lambda: Way(lambda: None))) for name in ("aa", "ab", "b")]
    rows.append(Row("c", "c", rows[0].build, by_name_only=True))
    assert [row.name for row in command.chosen(rows, ["a*"])] == ["aa", "ab"]
    assert [row.name for row in command.chosen(rows, [])] == ["aa", "ab", "b"]
    assert [row.name for row in command.chosen(rows, ["c"])] == ["c"]
    with pytest.raises(SystemExit, match="no row is named x"):
        command.chosen(rows, ["x"])
