"""Asynchronous runs from YAML: on two processes, and what is left of them after a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = """
trainer:
  max_steps: 6
  limit_val_batches: 0
data:
  class_path: datamodules.synthetic.SyntheticWordProblems
  init_args: {levels: {1: 1.0}, num_train: 8, num_val: 0, num_test: 4, batch_size: 4}
model:
  class_path: lightning_gfn.modules.gflownet.GFlowNetModule
  init_args:
    objective: {class_path: lightning_gfn.objectives.vargrad.VarGrad}
    reward: {class_path: lightning_gfn.rewards.likelihood.ReferenceLikelihood}
    behaviour: {on_policy: 0.5, replay: 0.5}
    buffer: {class_path: lightning_gfn.buffers.replay.ReplayBuffer, init_args: {capacity: 100}}
    num_samples: 4
    optimizer: {lr: 1.0e-2}
"""
SET = "--model.init_args.asynchronous"
BESIDE = (SET, "{max_staleness: 0, num_cpus: 0.25}")
OLDER = (SET, "{max_staleness: 2, num_samplers: 2, num_cpus: 0.25}")


@pytest.fixture(autouse=True)
def settings(write_small_run: Callable[[str], None]) -> None:
    write_small_run(SETTINGS)


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_have_samplers_of_their_own(
    run_apart: Callable[..., None],
    workspace: Path,
    checkpoint_of: Callable[[Path], dict[str, Any]],
    assert_same_state: Callable[..., None],
) -> None:
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    run_apart("--run_dir", "alone", *two)
    run_apart("--run_dir", "beside", *two, *BESIDE)
    assert len(checkpoint_of(workspace / "beside")["rng_states"]) == 2, "world_size must be 2"
    assert_same_state(workspace / "alone", workspace / "beside", ["state_dict", "lightning_gfn"])


def begun(workspace: Path) -> subprocess.Popen[str]:
    """A long run, in a session of its own."""
    command = [sys.executable, "-m", "lightning_gfn", "fit", "--config", "base.yaml", "--trainer.max_steps", "100000"]
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return subprocess.Popen(
        [*command, *OLDER], cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""},
        start_new_session=True,
    )  # fmt: skip


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_no_sampler_behind(workspace: Path, signum: signal.Signals) -> None:
    process = begun(workspace)
    rows = workspace / "run" / "metrics.jsonl"
    wait_until(
        lambda: process.poll() is not None or (rows.is_file() and len(rows.read_text()) > 0), "it does not begin"
    )
    family = psutil.Process(process.pid).children(recursive=True)
    actors = [child for child in family if "RolloutActor" in " ".join(child.cmdline())]
    assert len(actors) == 2 and all("ray::" in " ".join(actor.cmdline()) for actor in actors)
    process.send_signal(signum)
    said, _ = process.communicate(timeout=120)
    if signum == signal.SIGKILL:
        assert process.returncode == -signum
    else:
        assert process.returncode == 128 + signum and "go on with: lightning-gfn" in said, said
        assert (workspace / "run" / "checkpoints" / "last.ckpt").is_file() and "Traceback" not in said
    leave = actors if signum == signal.SIGKILL else family  # Ray's own agents take a minute to see that it is gone
    wait_until(lambda: not any(alive(child) for child in leave), "processes are left behind", 60.0)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_settings_are_refused_before_anything_is_loaded(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", SET, "{num_samplers: 0}") != 0
    said = capsys.readouterr().err
    assert "asynchronous.num_samplers is 0, expected at least 1" in said and "Traceback" not in said
