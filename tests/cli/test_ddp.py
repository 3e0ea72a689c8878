from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.ddp
def test_two_processes_share_one_run_folder(workspace: Path, rows_of: Callable[[Path], list[dict[str, Any]]]) -> None:
    """``--if_exists fresh`` moves the old folder once, whatever the number of processes."""
    (workspace / "run").mkdir()
    (workspace / "run" / "old.txt").touch()
    command = [sys.executable, "-m", "lightning_gfn.cli", "fit", "--config", "base.yaml", "--if_exists", "fresh"]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_steps", "4"]
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in workspace.glob("run*")) == ["run", "run.old-1"]
    assert [path.name for path in (workspace / "run.old-1").iterdir()] == ["old.txt"]
    state = torch.load(workspace / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(state["rng_states"]) == 2, "world_size must be 2"
    assert state["global_step"] == 4
    assert [row["step"] for row in rows_of(workspace / "run")] == ["0", "1", "2", "3", "3"]
