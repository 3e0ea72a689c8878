from __future__ import annotations

import csv
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn import cli

HERE = Path(__file__).parent
YAML = """
run_dir: run
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 8
  val_check_interval: 4
  enable_model_summary: false
  enable_progress_bar: false
  logger: false
checkpoint:
  every_n_train_steps: 3
model:
  class_path: standins.NoisyModule
data:
  class_path: standins.NoisyData
"""

Run = Callable[..., int]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a small configuration, where the stand-in classes can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    (tmp_path / "base.yaml").write_text(YAML)
    return tmp_path


@pytest.fixture
def run(workspace: Path) -> Run:
    """Run a command in this process on ``base.yaml``; returns the exit status."""

    def call(command: str, *arguments: str) -> int:
        try:
            return cli.main([command, "--config", "base.yaml", *arguments])
        except SystemExit as stop:
            return int(stop.code or 0)

    return call


@pytest.fixture
def run_forked(run: Run) -> Run:
    """Run a command in a process of its own, which may be killed; returns its status (minus the signal)."""
    import_module("lightning_gfn.lightning_cli")  # once here, instead of seconds in every child

    def call(command: str, *arguments: str) -> int:
        child = os.fork()
        if child == 0:
            status = 70
            try:
                status = run(command, *arguments)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    return call


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.csv`` without their times."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict[str, Any]]]:
    return table
