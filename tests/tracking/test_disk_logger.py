from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_gfn.tracking.disk_logger import DiskLogger


def json_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_alike(folder: Path) -> None:
    """The table holds exactly what the record holds."""
    table = csv_rows(folder)
    rows = json_rows(folder)
    assert len(table) == len(rows)
    for cells, row in zip(table, rows, strict=True):
        expected = {key: str(value) for key, value in row.items() if value is not None}
        assert {key: cell for key, cell in cells.items() if cell} == expected


def test_every_call_is_on_disk_at_once_and_columns_grow(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path / "run")
    for step, metrics in enumerate([{"train/a": 1.5}, {"train/b": 2.0}, {"train/a": 3.0, "val/c": 4}]):
        logger.log_metrics(metrics, step)
        assert [row["step"] for row in json_rows(tmp_path / "run")] == list(range(step + 1))
        assert_alike(tmp_path / "run")
    assert list(csv_rows(tmp_path / "run")[0]) == ["step", "time", "train/a", "train/b", "val/c"]


def test_not_finite_values_are_null(tmp_path: Path) -> None:
    DiskLogger(tmp_path).log_metrics({"train/a": math.nan, "train/b": math.inf, "train/c": 1}, 0)
    assert json_rows(tmp_path)[0]["train/a"] is None and json_rows(tmp_path)[0]["train/b"] is None
    assert_alike(tmp_path)


def test_resume_drops_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path)
    for step in range(6):
        logger.log_metrics({"train/loss": float(step)}, step)
    logger.log_metrics({"val/loss": 9.0}, 3)
    logger.log_metrics({"test/x": 1.0}, 4)
    logger.log_metrics({"test/x": 2.0}, 6)
    again = DiskLogger(tmp_path)
    again.resume_at(4)
    kept = [(row["step"], row.get("test/x")) for row in json_rows(tmp_path)]
    assert kept == [(0, None), (1, None), (2, None), (3, None), (3, None), (4, 1.0)]
    again.log_metrics({"train/loss": 4.0}, 4)
    assert_alike(tmp_path)
    steps = [row["step"] for row in json_rows(tmp_path) if "train/loss" in row]
    assert steps == sorted(set(steps)) == [0, 1, 2, 3, 4]


def test_row_that_was_due_when_the_checkpoint_was_saved_is_restored(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"train/loss": float(step)}, step)
    due = {"step": 3, "time": 1.0, "train/loss": 3.0}
    for _ in range(2):
        DiskLogger(tmp_path).resume_at(4, due)
        assert [row["step"] for row in json_rows(tmp_path)] == [0, 1, 2, 3]
        assert_alike(tmp_path)


def test_row_that_comes_again_keeps_its_time_and_a_repeated_test_adds_none(tmp_path: Path) -> None:
    logger = DiskLogger(tmp_path)
    logger.log_metrics({"train/loss": 1.0, "budget/wall_seconds": 1.0}, 0)
    logger.log_metrics({"train/loss": 2.0}, 1)
    former = json_rows(tmp_path)
    again = DiskLogger(tmp_path)
    again.resume_at(0)
    assert json_rows(tmp_path) == []
    again.log_metrics({"train/loss": 1.0, "budget/wall_seconds": 7.0}, 0)
    again.log_metrics({"train/loss": 2.5}, 1)
    rows = json_rows(tmp_path)
    assert rows[0] == former[0] and rows[1]["train/loss"] == 2.5
    for value in (0.5, 0.5, 0.6):
        DiskLogger(tmp_path).log_metrics({"test/x": value}, 2)
    assert [row["test/x"] for row in json_rows(tmp_path)[2:]] == [0.5, 0.6]
    assert_alike(tmp_path)


def test_line_cut_by_a_kill_is_dropped(tmp_path: Path) -> None:
    DiskLogger(tmp_path).log_metrics({"train/a": 1.0}, 0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "train')
    DiskLogger(tmp_path).log_metrics({"train/a": 2.0}, 1)
    assert [row["train/a"] for row in json_rows(tmp_path)] == [1.0, 2.0]
    assert_alike(tmp_path)


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = DiskLogger(tmp_path / "run")
    logger.log_metrics({"train/a": 1.0}, 0)
    logger.resume_at(0)
    assert not (tmp_path / "run").exists()
