"""A PPO run with several updates on each rollout batch: killed in the middle of one, resumed, and on two processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., int]
Rows = Callable[[Path], list[dict[str, Any]]]
State = Callable[[Path], dict[str, Any]]
Check = Callable[..., None]
SETTINGS = """
trainer:
  max_steps: 7
  limit_val_batches: 0
  callbacks:
    - class_path: lightning_gfn.callbacks.budget.Budget
    - class_path: killer.KillAt
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 8, num_val: 0, num_test: 4, batch_size: 4}
model:
  class_path: lightning_gfn.modules.policy_gradient.PolicyGradientModule
  init_args:
    objective: {class_path: lightning_gfn.objectives.ppo.PPO}
    reward: {class_path: lightning_gfn.rewards.likelihood.ReferenceLikelihood}
    num_samples: 4
    updates: {num_epochs: 2, num_minibatches: 2}
    kl: {coefficient: 0.1, target: 0.5}
    head: {class_path: lightning_gfn.policies.heads.ValueHead}
    optimizer: {lr: 1.0e-2, head_lr: 1.0e-2}
"""


@pytest.fixture(autouse=True)
def settings(write_small_run: Callable[[str], None]) -> None:
    write_small_run(SETTINGS)


def test_a_run_killed_within_a_window_resumes_bit_for_bit(
    run_forked: Run, workspace: Path, rows_of: Rows, checkpoint_of: State, assert_same_state: Check
) -> None:
    """Checkpoints after updates 3 and 6 of windows of 4 hold an open window, and the run ends within one."""
    assert run_forked("fit", "--run_dir", "straight") == 0
    straight = checkpoint_of(workspace / "straight")
    (window,) = straight["lightning_gfn"]["windows"]
    assert window["num_done"] == 3 and window["number"] == 1
    assert straight["lightning_gfn"]["kl_coefficient"] != 0.1
    killed = run_forked("fit", "--trainer.callbacks.init_args.step", "5", "--run_dir", "killed")
    assert killed == -signal.SIGKILL
    assert run_forked("fit", "--ckpt_path", "last", "--run_dir", "killed") == 0
    assert_same_state(workspace / "straight", workspace / "killed")
    rows = [rows_of(workspace / name) for name in ("straight", "killed")]
    assert rows[0] == rows[1] and len(rows[0]) == 7


def test_a_resume_without_the_window_is_noticed(run_forked: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without its window a run asks for trajectories of the wrong problems and ends."""
    from lightning_gfn.modules.rollout import RolloutModule

    settings = ("--trainer.max_steps", "8")
    assert run_forked("fit", "--trainer.callbacks.init_args.step", "5", *settings) == -signal.SIGKILL
    monkeypatch.setattr(RolloutModule, "on_fit_start", lambda self: self.restored_windows.clear())
    assert run_forked("fit", "--ckpt_path", "last", *settings) != 0


@pytest.mark.ddp
def test_two_processes_keep_their_own_windows(
    run_apart: Check, workspace: Path, checkpoint_of: State, assert_same_state: Check
) -> None:
    """Stopped within a window and resumed on two processes, the weights are those of an uninterrupted run on two."""
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    for folder, steps, extra in (("whole", 8, ()), ("cut", 6, ()), ("cut", 8, ("--ckpt_path", "last"))):
        run_apart("--run_dir", folder, "--trainer.max_steps", str(steps), *two, *extra)
        if folder == "cut" and steps == 6:
            windows = checkpoint_of(workspace / folder)["lightning_gfn"]["windows"]
            assert len(windows) == 2, "world_size must be 2"
            assert windows[0]["problem_ids"] != windows[1]["problem_ids"]
    assert_same_state(workspace / "whole", workspace / "cut", ["state_dict"])
