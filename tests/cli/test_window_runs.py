"""A PPO run with several updates on each rollout batch: killed in the middle of one, resumed, and on two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., int]
Rows = Callable[[Path], list[dict[str, Any]]]
ROOT = Path(__file__).parents[2]
YAML = """
run_dir: run
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 7
  limit_val_batches: 0
  enable_model_summary: false
  enable_progress_bar: false
  logger: false
  callbacks:
    - class_path: lightning_gfn.callbacks.throughput.Budget
    - class_path: killer.KillAt
checkpoint:
  every_n_train_steps: 3
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 8, num_val: 0, num_test: 4, batch_size: 4}
model:
  class_path: lightning_gfn.modules.policy_gradient.PolicyGradientModule
  init_args:
    policy:
      class_path: lightning_gfn.policies.causal_lm.CausalLM
      init_args:
        config:
          model_type: llama
          hidden_size: 16
          intermediate_size: 32
          num_hidden_layers: 1
          num_attention_heads: 2
          max_position_embeddings: 64
          attention_dropout: 0.1
        tokenizer: {kind: bpe, vocab_size: 300}
        max_prompt_tokens: 48
        max_new_tokens: 12
    objective: {class_path: lightning_gfn.objectives.ppo.PPO}
    reward: {class_path: lightning_gfn.rewards.likelihood.ReferenceLikelihood}
    num_samples: 4
    updates: {num_epochs: 2, num_minibatches: 2}
    kl: {coefficient: 0.1, target: 0.5}
    head: {class_path: lightning_gfn.policies.heads.ValueHead}
    optimizer: {lr: 1.0e-2, head_lr: 1.0e-2}
"""


def assert_same(first: Any, second: Any, path: str = "") -> None:
    """Equality, bit for bit, of nested checkpoints."""
    assert type(first) is type(second), path
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
    if isinstance(first, (dict, list, tuple)):
        assert len(first) == len(second), path
        for key in first if isinstance(first, dict) else range(len(first)):
            assert_same(first[key], second[key], f"{path}/{key}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    else:
        assert first == second, path


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def without_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    clock = ("budget/wall_seconds", "budget/peak_memory_mib")
    return [{name: value for name, value in row.items() if name not in clock} for row in rows]


def test_a_run_killed_within_a_window_resumes_bit_for_bit(run_forked: Run, workspace: Path, rows_of: Rows) -> None:
    """Checkpoints after updates 3 and 6 of windows of 4 hold an open window, and the run ends within one."""
    (workspace / "base.yaml").write_text(YAML)
    assert run_forked("fit", "--run_dir", "straight") == 0
    straight = checkpoint(workspace / "straight")
    (window,) = straight["lightning_gfn"]["windows"]
    assert window["num_done"] == 3 and window["number"] == 1
    assert straight["lightning_gfn"]["kl_coefficient"] != 0.1
    killed = run_forked("fit", "--trainer.callbacks.init_args.step", "5", "--run_dir", "killed")
    assert killed == -signal.SIGKILL
    assert run_forked("fit", "--ckpt_path", "last", "--run_dir", "killed") == 0
    resumed = checkpoint(workspace / "killed")
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "rng_states", "lightning_gfn", "global_step"):
        assert_same(straight[key], resumed[key], key)
    rows = [without_clock(rows_of(workspace / name)) for name in ("straight", "killed")]
    assert rows[0] == rows[1] and len(rows[0]) == 7


def test_a_resume_without_the_window_is_noticed(
    run_forked: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: without its window a run asks for trajectories of the wrong problems and ends."""
    from lightning_gfn.modules.rollout import RolloutModule

    (workspace / "base.yaml").write_text(YAML)
    settings = ("--trainer.max_steps", "8")
    assert run_forked("fit", "--trainer.callbacks.init_args.step", "5", *settings) == -signal.SIGKILL
    monkeypatch.setattr(RolloutModule, "on_fit_start", lambda self: self.restored_windows.clear())
    assert run_forked("fit", "--ckpt_path", "last", *settings) != 0


@pytest.mark.ddp
def test_two_processes_keep_their_own_windows(workspace: Path) -> None:
    """Stopped within a window and resumed on two processes, the weights are those of an uninterrupted run on two."""
    (workspace / "base.yaml").write_text(YAML)
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}", "OMP_NUM_THREADS": "1"}
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    for folder, steps, extra in (("whole", 8, ()), ("cut", 6, ()), ("cut", 8, ("--ckpt_path", "last"))):
        command = [sys.executable, "-m", "lightning_gfn.cli", "fit", "--config", "base.yaml", "--run_dir", folder]
        command += ["--trainer.max_steps", str(steps), *two, *extra]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
        if folder == "cut" and steps == 6:
            windows = checkpoint(workspace / folder)["lightning_gfn"]["windows"]
            assert len(windows) == 2, "world_size must be 2"
            assert windows[0]["problem_ids"] != windows[1]["problem_ids"]
    whole, cut = (checkpoint(workspace / name) for name in ("whole", "cut"))
    assert_same(whole["state_dict"], cut["state_dict"])
