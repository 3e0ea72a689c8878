"""Real GFlowNet runs through the command line: killed and resumed, and on two processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., int]
Rows = Callable[[Path], list[dict[str, Any]]]
State = Callable[[Path], dict[str, Any]]
Check = Callable[..., None]
Write = Callable[[str], None]
SETTINGS = """
trainer:
  max_steps: 10
  val_check_interval: 5
  check_val_every_n_epoch: null
  callbacks:
    - class_path: lightning_gfn.callbacks.evaluation.Evaluation
      init_args: {ks: [1, 2], majority_ks: [2]}
    - class_path: killer.KillAt
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 12, num_val: 4, num_test: 4, batch_size: 4}
model:
  class_path: lightning_gfn.modules.gflownet.GFlowNetModule
  init_args:
    objective: {class_path: lightning_gfn.objectives.vargrad.VarGrad}
    reward:
      class_path: lightning_gfn.rewards.weighted_sum.SumReward
      init_args:
        terms:
          likelihood:
            reward: {class_path: lightning_gfn.rewards.likelihood.ReferenceLikelihood}
            temperature:
              class_path: lightning_gfn.rewards.schedules.Linear
              init_args: {start: 1.2, end: 0.8, steps: 8}
          answer:
            reward: {class_path: lightning_gfn.rewards.answer_match.AnswerMatch}
            weight: 5.0
    num_samples: 4
    behaviour: {on_policy: 0.4, tempered: 0.3, replay: 0.3}
    buffer:
      class_path: lightning_gfn.buffers.replay.ReplayBuffer
      init_args: {capacity: 6, per_problem: true, duplicates: edit_distance}
    optimizer: {lr: 1.0e-2}
    evaluation: {num_samples: 2}
"""


def test_killed_gflownet_run_resumes_bit_for_bit(
    run_forked: Run,
    workspace: Path,
    rows_of: Rows,
    write_small_run: Write,
    checkpoint_of: State,
    assert_same_state: Check,
) -> None:
    """Weights, reference, optimiser, schedule, buffer, random states and every figure equal an uninterrupted run's."""
    write_small_run(SETTINGS)
    assert run_forked("fit", "--run_dir", "straight") == 0
    straight = checkpoint_of(workspace / "straight")
    assert len(straight["lightning_gfn"]["buffer"]) > 1
    assert any(".reference." in name for name in straight["state_dict"])
    for step in (4, 8):
        run_dir = ("--run_dir", f"killed{step}")
        killed = run_forked("fit", "--trainer.callbacks.init_args.step", str(step), *run_dir)
        assert killed == -signal.SIGKILL
        assert run_forked("fit", "--ckpt_path", "last", *run_dir) == 0
        assert_same_state(workspace / "straight", workspace / run_dir[1])
        assert rows_of(workspace / "straight") == rows_of(workspace / run_dir[1])


def test_a_resume_without_the_buffer_differs(
    run_forked: Run, workspace: Path, rows_of: Rows, write_small_run: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: it does when the buffer is not restored."""
    from lightning_gfn.buffers.replay import ReplayBuffer

    write_small_run(SETTINGS)
    assert run_forked("fit", "--run_dir", "straight") == 0
    assert run_forked("fit", "--trainer.callbacks.init_args.step", "4") == -signal.SIGKILL
    monkeypatch.setattr(ReplayBuffer, "load_state_dict", lambda *args: None)
    assert run_forked("fit", "--ckpt_path", "last") == 0
    assert rows_of(workspace / "run") != rows_of(workspace / "straight")


def test_predict_writes_every_sample(run_forked: Run, workspace: Path, write_small_run: Write) -> None:
    import json

    write_small_run(SETTINGS.replace("killer.KillAt", "lightning_gfn.callbacks.predictions.PredictionWriter"))
    assert run_forked("fit", "--trainer.max_steps", "2") == 0
    assert run_forked("predict") == 0
    lines = (workspace / "run" / "predictions" / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({(row["problem_id"], row["sample"]) for row in rows}) == 4 * 2 == len(rows)
    assert {"problem_id", "prompt", "completion", "log_prob", "correct"} <= rows[0].keys()


@pytest.mark.ddp
def test_two_processes_train_as_one(
    run_apart: Check, workspace: Path, write_small_run: Write, checkpoint_of: State
) -> None:
    """Same problems, same samples, same gradient: two processes end with the weights and the buffer of one."""
    write_small_run(SETTINGS)
    same = ("--model.init_args.policy.init_args.config.attention_dropout", "0.0", "--trainer.max_steps", "4")
    for folder, extra in (("one", ()), ("two", ("--trainer.devices", "2", "--trainer.strategy", "ddp"))):
        run_apart("--run_dir", folder, *same, "--trainer.limit_val_batches", "0", *extra)
    one, two = checkpoint_of(workspace / "one"), checkpoint_of(workspace / "two")
    assert len(two["rng_states"]) == 2, "world_size must be 2"
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, atol=1e-4, rtol=1e-3, msg=name)
    sizes = [len(state["lightning_gfn"]["buffer"]["born"]) for state in (one, two)]
    assert sizes[0] == sizes[1] > 0
