"""``lean rewards``: the figures against counted pairs, the plot, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_gfn.commands.lean import main
from lightning_gfn.reports.partial_rewards import load_separation

ROWS = [
    {"problem_id": "a", "log_probs": [-1.0, -4.0, -6.0], "lengths": [2, 2, 2], "correct": [True, False, True]},
    {"problem_id": "b", "log_probs": [-1.0, -9.0], "lengths": [4, 3], "correct": [False, False]},
]


def write_run(folder: Path, rows: list[dict[str, object]]) -> Path:
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "test_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_auroc_counts_pairs_and_theorems_of_two_runs_stay_apart(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", ROWS), write_run(tmp_path / "two", ROWS[:1])
    found = load_separation([one, two], "test")
    proved, unproved = [-0.5, -3.0, -0.5, -3.0], [-2.0, -0.25, -3.0, -2.0]
    pairs = [(p > u) + 0.5 * (p == u) for p in proved for u in unproved]
    assert found["auroc"] == pytest.approx(sum(pairs) / len(pairs))
    assert found["auroc_within"] == pytest.approx(0.5) and found["theorems_with_both"] == 2


def test_the_command_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", str(write_run(tmp_path / "one", ROWS))]) == 0
    assert (tmp_path / "one" / "results" / "test_partial_rewards.png").stat().st_size > 5_000
    assert "proved: 2 attempts, mean -1.750" in capsys.readouterr().out


def test_errors_name_the_file_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", str(tmp_path)]) == 1
    assert "test_problems.jsonl does not exist: evaluate" in capsys.readouterr().err
    broken = {name: value for name, value in ROWS[0].items() if name != "lengths"}
    assert main(["rewards", str(write_run(tmp_path / "broken", [broken]))]) == 1
    assert "test_problems.jsonl:1: field 'lengths' is missing" in capsys.readouterr().err
    assert main(["rewards", str(write_run(tmp_path / "failures", ROWS[1:]))]) == 1
    assert "proofs and failures are both needed" in capsys.readouterr().err
