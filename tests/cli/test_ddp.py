from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.ddp
def test_two_processes_share_one_run_folder(
    workspace: Path, rows_of: Callable[[Path], list[dict[str, Any]]], run_apart: Callable[..., None]
) -> None:
    """``--if_exists fresh`` moves the old folder once, whatever the number of processes."""
    (workspace / "run").mkdir()
    (workspace / "run" / "old.txt").touch()
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_steps", "4"]
    run_apart("--if_exists", "fresh", *two)
    assert sorted(path.name for path in workspace.glob("run*")) == ["run", "run.old-1"]
    assert [path.name for path in (workspace / "run.old-1").iterdir()] == ["old.txt"]
    state = torch.load(workspace / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(state["rng_states"]) == 2, "world_size must be 2"
    assert state["global_step"] == 4
    assert [row["step"] for row in rows_of(workspace / "run")] == ["0", "1", "2", "3", "3"]
