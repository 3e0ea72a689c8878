"""A DAPO run that samples groups again: killed within a window and resumed, and on two processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.rollouts.completion_sampler import RolloutSampler

Run = Callable[..., int]
Rows = Callable[[Path], list[dict[str, Any]]]
Check = Callable[..., None]
REWARD = """
def is_even(completions):
    return [float(len(text) % 2 == 0) for text in completions]
"""
SETTINGS = """
trainer:
  max_steps: 7
  limit_val_batches: 0
  log_every_n_steps: 1
  callbacks:
    - class_path: lightning_gfn.callbacks.budget.Budget
    - class_path: killer.KillAt
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 8, num_val: 0, num_test: 4, batch_size: 4}
model:
  class_path: lightning_gfn.modules.policy_gradient.PolicyGradientModule
  init_args:
    objective:
      class_path: lightning_gfn.objectives.grpo.GRPO
      init_args: {drop_equal_groups: true, aggregation: token}
    reward:
      class_path: lightning_gfn.rewards.function.FunctionReward
      init_args: {function: "parity.py:is_even"}
    num_samples: 2
    resample: {max_rounds: 4}
    updates: {num_epochs: 2, num_minibatches: 2}
    optimizer: {lr: 1.0e-2}
"""
COSTS = ("budget/generated_tokens", "budget/reward_calls")


@pytest.fixture(autouse=True)
def settings(write_small_run: Callable[[str], None], workspace: Path) -> None:
    write_small_run(SETTINGS)
    (workspace / "parity.py").write_text(REWARD)


def test_a_run_killed_within_a_window_resumes_bit_for_bit(
    run_forked: Run, workspace: Path, rows_of: Rows, assert_same_state: Check
) -> None:
    """Weights, figures and budgets, with groups that were sampled again before and after the kill."""
    assert run_forked("fit", "--run_dir", "straight") == 0
    killed = run_forked("fit", "--trainer.callbacks.init_args.step", "5", "--run_dir", "killed")
    assert killed == -signal.SIGKILL
    assert run_forked("fit", "--ckpt_path", "last", "--run_dir", "killed") == 0
    assert_same_state(workspace / "straight", workspace / "killed")
    rows = [rows_of(workspace / name) for name in ("straight", "killed")]
    assert rows[0] == rows[1] and len(rows[0]) == 7
    refilled = [float(row["train/share_groups_refilled"]) for row in rows[0]]
    assert refilled[0] > 0 and refilled[-1] > 0
    assert float(rows[0][-1]["budget/reward_calls"]) > 2 * 4 * 2


@pytest.mark.slow
def test_numbers_that_depend_on_the_process_are_noticed(
    run_forked: Run, workspace: Path, rows_of: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: a round counter that a resumed run starts again."""
    original, drawn = RolloutSampler.collect, []

    def forgetful(self: Any, *args: Any, attempt: int = 0, **keys: Any) -> Any:
        drawn.append(attempt)
        return original(self, *args, attempt=len(drawn), **keys)

    monkeypatch.setattr(RolloutSampler, "collect", forgetful)
    assert run_forked("fit", "--trainer.max_steps", "12", "--run_dir", "straight") == 0
    settings = ("--trainer.max_steps", "12", "--run_dir", "killed")
    assert run_forked("fit", "--trainer.callbacks.init_args.step", "7", *settings) == -signal.SIGKILL
    assert run_forked("fit", "--ckpt_path", "last", *settings) == 0
    rows = [rows_of(workspace / name) for name in ("straight", "killed")]
    assert rows[0] != rows[1]


@pytest.mark.ddp
def test_two_processes_sample_the_groups_of_one(run_apart: Check, workspace: Path, rows_of: Rows) -> None:
    """Each makes its own number of rounds; together they pay what one process pays for the same four problems."""
    run_apart("--run_dir", "one", "--trainer.max_steps", "4")
    run_apart("--run_dir", "two", "--trainer.max_steps", "4", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    one, two = (rows_of(workspace / name)[0] for name in ("one", "two"))
    assert [float(one[name]) for name in COSTS] == [float(two[name]) for name in COSTS]
    assert float(one["budget/reward_calls"]) > 4 * 2, "some group is sampled again"
