from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., int]
Rows = Callable[[Path], list[dict[str, Any]]]
Check = Callable[..., None]


def test_killed_run_resumes_bit_for_bit(
    run_forked: Run, workspace: Path, rows_of: Rows, assert_same_state: Check
) -> None:
    """6 batches an epoch, checkpoints every 3 steps and after the validations at 4 and 10: kills hit each."""
    settings = ("--trainer.max_steps", "11")
    assert run_forked("fit", "--run_dir", "straight", *settings) == 0
    for kill_at in (4, 6, 7):
        run_dir = ("--run_dir", f"killed{kill_at}")
        assert run_forked("fit", "--model.init_args.kill_at_step", str(kill_at), *run_dir, *settings) == -signal.SIGKILL
        assert run_forked("fit", "--ckpt_path", "last", *run_dir, *settings) == 0
        assert rows_of(workspace / run_dir[1]) == rows_of(workspace / "straight")
        assert_same_state(workspace / run_dir[1], workspace / "straight")


def test_validation_that_was_killed_is_made_up_for(
    run_forked: Run, workspace: Path, rows_of: Rows, assert_same_state: Check
) -> None:
    settings = ("--checkpoint.every_n_train_steps", "2")
    assert run_forked("fit", "--run_dir", "straight", *settings) == 0
    assert run_forked("fit", "--model.init_args.kill_in_validation", "4", *settings) == -signal.SIGKILL
    assert run_forked("fit", "--ckpt_path", "last", *settings) == 0
    assert rows_of(workspace / "run") == rows_of(workspace / "straight")
    assert_same_state(workspace / "run", workspace / "straight")


def test_run_killed_before_its_first_checkpoint(run_forked: Run, workspace: Path, rows_of: Rows) -> None:
    assert run_forked("fit", "--run_dir", "straight") == 0
    assert run_forked("fit", "--model.init_args.kill_at_step", "2") == -signal.SIGKILL
    assert len(rows_of(workspace / "run")) == 2
    assert run_forked("fit", "--ckpt_path", "last") == 2, "nothing to go on from must be an error"
    assert run_forked("fit", "--if_exists", "resume") == 0
    assert rows_of(workspace / "run") == rows_of(workspace / "straight")


def test_without_random_states_a_resume_differs(
    run_forked: Run, workspace: Path, rows_of: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: it does when the generators are not restored."""
    from lightning_gfn.tracking.rng import RngState

    assert run_forked("fit", "--run_dir", "straight") == 0
    assert run_forked("fit", "--model.init_args.kill_at_step", "5") == -signal.SIGKILL
    monkeypatch.setattr(RngState, "on_load_checkpoint", lambda *args: None)
    assert run_forked("fit", "--ckpt_path", "last") == 0
    assert rows_of(workspace / "run") != rows_of(workspace / "straight")
