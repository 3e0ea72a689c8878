"""``lean rewards``: the figures against counted pairs, the plot, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.commands.lean import main
from lightning_gfn.reports.partial_rewards import load_separation

A = {
    "problem_id": "a", "log_probs": [-1.0, -4.0, -6.0], "lengths": [3, 1, 2], "num_tactics": [1, 1, 2],
    "outcomes": ["proved", "error", "proved"],
}  # fmt: skip
B = {
    "problem_id": "b", "log_probs": [-1.0, -9.0], "lengths": [2, 1], "num_tactics": [2, 2],
    "outcomes": ["unfinished", "error"],
}  # fmt: skip
SETTINGS: dict[str, Any] = {"method": "sft", "problems": "p", "metric_settings": {}}


def write_run(folder: Path, rows: list[dict[str, Any]], temperatures: tuple[float, ...] = (1.0,)) -> Path:
    (folder / "results").mkdir(parents=True)
    identity = {**SETTINGS, "decoding": {"temperatures": temperatures}}
    (folder / "results" / "test_metrics.json").write_text(json.dumps(identity))
    whole = [{"temperature": temperatures[0], "metrics": {}, **row} for row in rows]
    (folder / "results" / "test_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole))
    return folder


def test_auroc_counts_pairs_and_theorems_of_two_runs_stay_apart(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", [A, B]), write_run(tmp_path / "two", [A])
    found = load_separation([one, two], "test")
    proved, failed, unfinished = [-0.25, -1.5, -0.25, -1.5], [-2.0, -3.0, -2.0], [-0.25]

    def auroc(others: list[float]) -> float:
        pairs = [(p > u) + 0.5 * (p == u) for p in proved for u in others]
        return sum(pairs) / len(pairs)

    assert found["proved"]["scores"] == sorted(proved) and found["error"]["scores"] == sorted(failed)
    assert found["auroc"] == pytest.approx(auroc(failed + unfinished))
    assert found["auroc_unfinished"] == pytest.approx(auroc(unfinished)) == 0.25
    assert found["auroc_within"] == 1.0 and found["theorems_with_both"] == 2


def test_one_temperature_is_read(tmp_path: Path) -> None:
    cold = {**A, "temperature": 0.5, "log_probs": [-10.0, -0.1, -10.0]}
    run = write_run(tmp_path / "run", [A, cold], (1.0, 0.5))
    assert load_separation([run], "test")["auroc"] == 1.0
    assert load_separation([run], "test", 0.5)["auroc"] == 0.0
    with pytest.raises(ValueError, match="not at 0.7"):
        load_separation([run], "test", 0.7)


def test_the_command_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", str(write_run(tmp_path / "one", [A, B])), "--temperature", "1"]) == 0
    assert (tmp_path / "one" / "results" / "test_partial_rewards.png").stat().st_size > 5_000
    printed = capsys.readouterr().out
    assert "proved: 2 attempts, mean -0.875, median -0.875 nats" in printed and "AUROC 0.750; against" in printed


def test_errors_name_the_file_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error_of(folder: Path) -> str:
        assert main(["rewards", str(folder)]) == 1
        return capsys.readouterr().err

    assert "test_metrics.json does not exist: evaluate" in error_of(tmp_path)
    old = {name: value for name, value in A.items() if name != "num_tactics"}
    message = error_of(write_run(tmp_path / "old", [old]))
    assert "test_problems.jsonl, problem a: field 'num_tactics' is missing" in message
    broken = write_run(tmp_path / "broken", [A, B]) / "results" / "test_problems.jsonl"
    broken.write_text(broken.read_text()[:-30])
    assert f"{broken}, line 2: malformed row" in error_of(tmp_path / "broken")
    assert "proofs and failures are both needed" in error_of(write_run(tmp_path / "failures", [B]))
