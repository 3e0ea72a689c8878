from __future__ import annotations

import csv
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  # binds its log to the real stderr, whichever test comes first
import pytest
import torch
import yaml

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
SMALL_LLAMA = """
run_dir: run
trainer:
  accelerator: cpu
  devices: 1
  enable_model_summary: false
  enable_progress_bar: false
  logger: false
checkpoint:
  every_n_train_steps: 3
model:
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
"""
STATE = ("state_dict", "optimizer_states", "lr_schedulers", "rng_states", "lightning_gfn", "global_step")
UNEQUAL = (
    "time",
    "budget/wall_seconds",
    "budget/processor_seconds",
    "budget/peak_memory_mib",
    "train/idle_seconds",
    "train/idle_share",
)

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
    import_module("lightning_gfn.lightning_cli.main")  # once here, instead of seconds in every child

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


@pytest.fixture
def run_apart(workspace: Path, run_ranks: Callable[..., None]) -> Callable[..., None]:
    """Run ``fit`` in a fresh process, which may start others; it must succeed."""

    def call(*arguments: str) -> None:
        run_ranks("-m", "lightning_gfn.cli", "fit", "--config", "base.yaml", *arguments, path=str(HERE))

    return call


def table(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.csv`` without what two equal runs differ in: times and memory."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in UNEQUAL} for row in csv.DictReader(file)]


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict[str, Any]]]:
    return table


def merged(base: Any, over: Any) -> Any:
    """Mappings laid over each other, key by key."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


@pytest.fixture
def write_small_run(workspace: Path) -> Callable[[str], None]:
    """Write ``base.yaml``: these settings over those that every run of the small Llama has."""

    def write(text: str) -> None:
        config = merged(yaml.safe_load(SMALL_LLAMA), yaml.safe_load(text))
        (workspace / "base.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    return write


def last_checkpoint(folder: Path) -> dict[str, Any]:
    """The state that a run could go on from."""
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture
def checkpoint_of() -> Callable[[Path], dict[str, Any]]:
    return last_checkpoint


def equal(first: Any, second: Any, path: str = "") -> None:
    """Equality, bit for bit, of nested checkpoints."""
    assert type(first) is type(second), path
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
    if isinstance(first, (dict, list, tuple)):
        assert len(first) == len(second), path
        for key in first if isinstance(first, dict) else range(len(first)):
            equal(first[key], second[key], f"{path}/{key}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    else:
        assert first == second, path


@pytest.fixture
def assert_same_state() -> Callable[..., None]:
    """The last checkpoints of two run folders hold the same, bit for bit."""

    def check(one: Path, other: Path, keys: Sequence[str] = STATE) -> None:
        first, second = last_checkpoint(one), last_checkpoint(other)
        for key in keys:
            equal(first.get(key), second.get(key), key)

    return check
