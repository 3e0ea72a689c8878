"""From the start of ``lightning-gfn fit`` to the end of its first step, beside a bare Lightning + MLflow fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.frame.row import Contest, Row, Seconds, Way, time_at_most
from benchmarks.subjects.first_step import VARIABLE
from benchmarks.subjects.models import new_folder

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "experiments" / "quickstart" / "sft.yaml"
LONGEST = 300.0
CALLBACK = "benchmarks.subjects.first_step.FirstStep"


def command(ours: bool, folder: Path) -> list[str]:
    """The command line of a fit that keeps everything in a folder."""
    if not ours:
        return [sys.executable, "-m", "benchmarks.peers.bare_fit", str(folder)]
    return [
        sys.executable, "-m", "lightning_gfn", "fit", "--config", str(CONFIG), "--run_dir", str(folder / "run"),
        "--trainer.callbacks+", CALLBACK, "--trainer.max_steps", "2",
    ]  # fmt: skip


def wait_for(mark: Path, process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait for the file that the first step writes.

    Raises:
        RuntimeError: the process ended without it, or took too long.
    """
    started = time.monotonic()
    while not mark.exists():
        ended = process.poll() is not None and not mark.exists()
        if ended or time.monotonic() - started > LONGEST:
            raise RuntimeError(f"the fit made no first step: {output.read_text(encoding='utf-8').strip()[-300:]}")
        time.sleep(0.05)


def fit(ours: bool) -> Way:
    """A new process; its processor seconds, with those of its children, until the first step was over."""

    def run() -> Seconds:
        folder = new_folder()
        mark = folder / "first_step"
        environment = {
            **os.environ,
            VARIABLE: str(mark),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        with (folder / "output").open("w") as output:
            process = subprocess.Popen(
                command(ours, folder), env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
            )
        try:
            wait_for(mark, process, folder / "output")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what follows the first step is not measured
            process.wait()
        return Seconds(float(mark.read_text(encoding="utf-8")))

    return Way(run)


ROWS = [
    Row(
        name="fit_start",
        what="lightning-gfn fit (quickstart's SFT) to the end of the first step",
        build=lambda options: Contest(ours=lambda: fit(True), peers={"bare Lightning + MLflow": lambda: fit(False)}),
        target=time_at_most(1.3),
        rounds=1,
    )
]
