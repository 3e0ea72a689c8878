"""Rows on disk and in MLflow after kills at chosen moments: those of a run that nothing interrupted."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from lightning_gfn.tracking import checkpoints
from lightning_gfn.tracking.disk_logger import MEASURED, DiskLogger, is_of_test
from lightning_gfn.tracking.mirror.points import points, points_of_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes at chosen moments")
Run = Callable[..., int]
ON = ("--trainer.logger", "true", "--mlflow.flush_seconds", "60", "--trainer.max_steps", "11")
EARLY = [("after_test_row", 1), ("after_rename", 1), ("before_row", 6)]
LATE = [
    *[("before_row", n) for n in (1, 2, 4, 5, 8, 12)],
    *[("after_row", n) for n in (1, 3, 4, 5, 7, 9, 13)],
    *[("before_rename", n) for n in (1, 2, 4, 6)],
    *[("after_rename", n) for n in (2, 4, 6)],
    *[("in_validation", n) for n in (1, 2, 3, 4, 5, 6)],
    *[("in_test", n) for n in (1, 2, 3)],
    *[("mlflow_answers", n) for n in (1, 2, 3, 4)],
]


def kill() -> None:
    time.sleep(1.2)  # what is on its way to MLflow arrives: a kill must not double it
    os.kill(os.getpid(), signal.SIGKILL)


def killing(function: Callable[..., Any], number: int, *, after: bool, counts: Callable[..., bool]) -> Any:
    """The function with a kill before or after its call of a number, among those that count."""
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        due = counts(*args) and (calls := calls + 1) == number
        if due and not after:
            kill()
        result = function(*args, **kwargs)
        if due:
            kill()
        return result

    return wrapped


def plant(monkeypatch: pytest.MonkeyPatch, moment: str, number: int) -> None:
    def always(*args: Any) -> bool:
        return True

    module = import_module("standins").NoisyModule
    places: dict[str, tuple[Any, str, bool, Callable[..., bool]]] = {
        "before_row": (DiskLogger, "append", False, always),
        "after_row": (DiskLogger, "append", True, always),
        "after_test_row": (DiskLogger, "append", True, lambda self, row: is_of_test(row)),
        "before_rename": (checkpoints, "replace", False, always),
        "after_rename": (checkpoints, "replace", True, always),
        "in_validation": (module, "validation_step", False, always),
        "in_test": (module, "test_step", False, always),
        "mlflow_answers": (MlflowClient, "log_batch", True, always),
    }
    owner, name, after, counts = places[moment]
    monkeypatch.setattr(owner, name, killing(getattr(owner, name), number, after=after, counts=counts))


def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if MEASURED.search(key) is None} for row in rows]


def mlflow_run(folder: Path) -> tuple[Any, list[Any]]:
    known = json.loads((folder / "run.json").read_text())["mlflow"]
    client = MlflowClient(known["tracking_uri"])
    name = f"tags.run_dir = '{folder.name}'"
    assert len(client.search_runs(["1"], name)) == 1, "one MLflow run for one run folder"
    return client.get_run(known["run_id"]), points_of_run(client, known["run_id"])


def assert_identical(folder: Path, straight: Path, rows_of: Callable[..., Any]) -> None:
    rows = DiskLogger(folder).rows()
    assert kept(rows) == kept(DiskLogger(straight).rows()), "metrics.jsonl"
    assert rows_of(folder) == rows_of(straight), "metrics.csv"
    run, there = mlflow_run(folder)
    assert len(there) == len(set(there)) and set(there) == points(rows), "MLflow holds what the disk holds, once"
    other, others = mlflow_run(straight)
    assert sorted((key, step, value) for key, step, value, _ in there) == sorted(
        (key, step, value) for key, step, value, _ in others
    )
    assert run.info.status == other.info.status == "FINISHED"
    ignored = {"run_dir", "trainer.default_root_dir", "mlflow.run_dir"}
    assert {k: v for k, v in run.data.params.items() if k not in ignored} == {
        k: v for k, v in other.data.params.items() if k not in ignored
    }


@pytest.fixture
def check(
    run_forked: Run, workspace: Path, rows_of: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, int], None]:
    def call(moment: str, number: int) -> None:
        if not (workspace / "straight").exists():
            assert run_forked("run", "--run_dir", "straight", *ON) == 0
        name = f"{moment}{number}"
        with monkeypatch.context() as patch:
            plant(patch, moment, number)
            assert run_forked("run", "--run_dir", name, *ON) == -signal.SIGKILL, "the kill must hit"
        assert run_forked("run", "--run_dir", name, "--if_exists", "resume", *ON) == 0
        assert_identical(workspace / name, workspace / "straight", rows_of)

    return call


def test_rows_are_those_of_an_uninterrupted_run(check: Callable[[str, int], None]) -> None:
    for moment, number in EARLY:
        check(moment, number)


@pytest.mark.slow
def test_rows_after_each_of_36_kills(check: Callable[[str, int], None]) -> None:
    faults = {}
    for moment, number in [*EARLY, *LATE]:
        try:
            check(moment, number)
        except AssertionError as error:
            faults[moment, number] = str(error).splitlines()[0]
        print(f"kill {moment} {number}: {faults.get((moment, number), 'identical')}", file=sys.stderr, flush=True)
    assert not faults, f"{len(faults)} of {len(EARLY) + len(LATE)} differ: {faults}"
