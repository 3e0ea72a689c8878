"""Signals: what is under way is saved, the line that goes on is printed, and schedulers read the status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn import stop_requests
from lightning_gfn.lightning_cli.stopping.resume_line import resuming
from lightning_gfn.stop_requests import StopRequests, is_interruption

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and processes as on Linux")
SLOW = """
import time
from standins import NoisyData, NoisyModule

class SlowModule(NoisyModule):
    def training_step(self, batch, batch_idx):
        time.sleep(0.2)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        time.sleep(0.2)
        return super().validation_step(batch, batch_idx)

    def on_test_batch_start(self, batch, batch_idx, dataloader_idx=0):
        time.sleep(0.2)

    def on_predict_batch_start(self, batch, batch_idx, dataloader_idx=0):
        time.sleep(0.2)
"""


def hear_signals() -> None:
    """A process begun in the background of a shell ignores Ctrl-C, and so would its children."""
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


def begun(workspace: Path, *more: str, command: str = "fit", run_dir: str = "run") -> subprocess.Popen[str]:
    (workspace / "slowly.py").write_text(SLOW)
    path = os.pathsep.join([str(ROOT), str(workspace), str(Path(__file__).parent)])
    arguments = [command, "--config", "base.yaml", "--run_dir", run_dir, "--model", "slowly.SlowModule", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "lightning_gfn", *arguments],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_signals,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [{name: value for name, value in row.items() if name != "time"} for row in found]


def wait_for_rows(folder: Path, count: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while len(rows(folder)) < count:
        assert time.monotonic() < deadline, "the run does not begin"
        time.sleep(0.05)


def same_state(one: Path, other: Path) -> None:
    states = [torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (one, other)]
    for key in ("state_dict", "optimizer_states", "rng_states", "global_step"):
        assert str(states[0].get(key)) == str(states[1].get(key)), key


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=90)
    return process.returncode, said


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGINT,
        signal.SIGTERM,
        *(pytest.param(other, marks=pytest.mark.slow) for other in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)),
    ],
)
def test_a_signal_saves_and_the_printed_line_goes_on(workspace: Path, signum: signal.Signals) -> None:
    process = begun(workspace, "--trainer.max_steps", "10", "--checkpoint.every_n_train_steps", "100")
    wait_for_rows(workspace / "run", 2)
    process.send_signal(signum)
    status, said = ended(process)
    assert status == 128 + signum, said
    assert "Traceback" not in said and signum.name in said
    step = torch.load(workspace / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 2 <= step < 10 and f"training stopped after step {step}" in said
    line = re.search(r"go on with: lightning-gfn (.*)", said)
    assert line is not None and line[1].endswith("--if_exists resume")

    resumed = begun(workspace, *line[1].split()[5:])
    status, said = ended(resumed)
    assert status == 0, said
    whole = begun(workspace, "--trainer.max_steps", "10", "--checkpoint.every_n_train_steps", "100", run_dir="whole")
    assert ended(whole)[0] == 0
    same_state(workspace / "run", workspace / "whole")
    assert rows(workspace / "run") == rows(workspace / "whole")


def test_within_a_validation_the_state_before_it_is_saved(workspace: Path) -> None:
    arguments = ("--trainer.max_steps", "8", "--checkpoint.every_n_train_steps", "100", "--data.size", "40")
    process = begun(workspace, *arguments)
    wait_for_rows(workspace / "run", 4)
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    status, said = ended(process)
    assert status == 143, said
    assert ended(begun(workspace, *arguments, "--if_exists", "resume"))[0] == 0
    assert ended(begun(workspace, *arguments, run_dir="whole"))[0] == 0
    same_state(workspace / "run", workspace / "whole")
    assert rows(workspace / "run") == rows(workspace / "whole")


def test_an_end_that_takes_its_time_is_not_interrupted() -> None:
    with StopRequests() as requests:
        requests.at_boundary = True
        os.kill(os.getpid(), signal.SIGTERM)
        requests.obey()
        time.sleep(0.6)  # the watching thread looks every fifth of a second
        assert requests.signum == signal.SIGTERM


@pytest.mark.parametrize(
    ("signum", "said"),
    [
        (signal.SIGINT, "SIGINT (Ctrl-C): stops and saves after the step under way, which has 600 s; again: at once"),
        (signal.SIGTERM, "SIGTERM: stops and saves after the step under way, which has 60 s\n"),
    ],
)
def test_a_step_that_goes_on_is_said_once(
    signum: signal.Signals, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stop_requests, "SILENT_SECONDS", 0.1)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    former = signal.signal(signum, signal.SIG_DFL)  # a shell's background process ignores Ctrl-C
    with StopRequests() as requests:
        requests.at_boundary = True
        os.kill(os.getpid(), signum)
        time.sleep(0.9)
        requests.obey()
    signal.signal(signum, former)
    error = capsys.readouterr().err
    assert said in error and error.count("step under way") == 1


def test_a_step_that_ends_soon_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    with StopRequests() as requests:
        requests.at_boundary = True
        os.kill(os.getpid(), signal.SIGTERM)
        requests.obey()
        time.sleep(0.5)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_before_training_nothing_is_saved_and_it_says_so(workspace: Path) -> None:
    process = begun(workspace)
    while not (workspace / "run").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, said = ended(process)
    assert status == 143 and "Traceback" not in said


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(workspace: Path) -> None:
    (workspace / "slowly.py").write_text(SLOW)
    process = begun(workspace, "--trainer.max_steps", "10")
    wait_for_rows(workspace / "run", 1)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    status, said = ended(process)
    assert status == 130 and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_evaluation_that_is_interrupted_says_so(workspace: Path, command: str) -> None:
    process = begun(workspace, "--data.size", "400", command=command)
    time.sleep(9.0)
    process.send_signal(signal.SIGTERM)
    status, said = ended(process)
    assert status == 143 and "Traceback" not in said


def two_ranks(workspace: Path, *more: str) -> subprocess.Popen[str]:
    return begun(workspace, "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_steps", "400", *more)


def pid_of(workspace: Path, rank: int) -> int:
    return int(json.loads((workspace / "run" / ".ranks" / f"{rank}.json").read_text())["pid"])


@pytest.mark.ddp
def test_a_signal_to_one_rank_stops_both_with_one_checkpoint(workspace: Path) -> None:
    process = two_ranks(workspace)
    wait_for_rows(workspace / "run", 2)
    os.kill(pid_of(workspace, 1), signal.SIGTERM)
    status, said = ended(process)
    assert status == 143, said
    assert "training stopped after step" in said and "Traceback" not in said
    assert (workspace / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize(("signum", "words"), [(signal.SIGSTOP, "was stopped"), (signal.SIGKILL, "has ended")])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_rank_is_named_and_all_end(workspace: Path, signum: signal.Signals, words: str, rank: int) -> None:
    process = two_ranks(workspace)
    wait_for_rows(workspace / "run", 2)
    pids = [pid_of(workspace, 0), pid_of(workspace, 1)]
    os.kill(pids[rank], signum)
    started = time.monotonic()
    said, _ = process.communicate(timeout=90)
    assert time.monotonic() - started < 60
    assert re.search(rf"rank {rank} \(process {pids[rank]} on .*\) {words}", said), said
    deadline = time.monotonic() + 15
    while any(
        Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" for pid in pids
    ):
        assert time.monotonic() < deadline, "a rank is left"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fit", "--config", "a b.yaml"], "lightning-gfn fit --config 'a b.yaml' --if_exists resume"),
        (["run", "--if_exists", "fresh", "--x", "1"], "lightning-gfn run --x 1 --if_exists resume"),
        (["fit", "--ckpt_path=last", "--if_exists=error"], "lightning-gfn fit --if_exists resume"),
        (["test", "--ckpt_path", "best"], "lightning-gfn test --ckpt_path best"),
    ],
)
def test_the_line_that_goes_on(arguments: Sequence[str], line: str) -> None:
    assert resuming(arguments) == line


@pytest.mark.parametrize(
    ("status", "answer"), [(130, True), (143, True), (-15, True), (-9, False), (1, False), (2, False), (0, False)]
)
def test_which_statuses_mean_interrupted(status: int, answer: bool) -> None:
    assert is_interruption(status) is answer


@pytest.mark.slow
def test_an_interrupted_study_saves_its_runs_and_goes_on(workspace: Path) -> None:
    (workspace / "slowly.py").write_text(SLOW)
    config = (workspace / "base.yaml").read_text().replace("standins.NoisyModule", "slowly.SlowModule")
    (workspace / "base.yaml").write_text(config.replace("max_steps: 8", "max_steps: 20"))
    stage = "{config: base.yaml, command: fit, seed_keys: [seed_everything]}"
    (workspace / "study.yaml").write_text(f"output: runs\nstages:\n  one: {stage}\n")
    path = os.pathsep.join([str(ROOT), str(workspace), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-m", "lightning_gfn", "study", "study.yaml"]
    options: dict[str, Any] = {"cwd": workspace, "env": environment, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    wait_for_rows(workspace / "runs" / "one_seed0", 2)
    process.send_signal(signal.SIGTERM)
    status, said = ended(process)
    assert status == 143 and "the same command goes on from here" in said and "Traceback" not in said, said
    saved = torch.load(workspace / "runs" / "one_seed0" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 2 <= saved["global_step"] < 20
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"goes on from {Path('runs/one_seed0/checkpoints/last.ckpt')}" in done.stdout
