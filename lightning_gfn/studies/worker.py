"""The worker process that carries out the commands of a study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

DONE = "@@done"
CLOSING_SECONDS = 60.0


PRINTING = threading.Lock()


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "Agg",
}


def say(label: str, text: str) -> None:
    """Print one progress line."""
    with PRINTING:
        print(f"[{label}] {text}", flush=True)


class Worker:
    """One process, with one thread for arithmetic, that carries out commands one after another."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, label: str, arguments: Sequence[str], log_path: Path) -> int:
        """Carry out one command, its output passed on line by line and appended to a log.

        Returns:
            its exit status; that of the process if the process died.
        """
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lightning_gfn.stage_worker"],
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("a", encoding="utf-8") as log:
            self.process.stdin.write(json.dumps(list(arguments)) + "\n")
            self.process.stdin.flush()
            status = self.pass_on(label, self.process.stdout, log)
        return status if status is not None else self.process.wait() or 1

    @staticmethod
    def pass_on(label: str, output: IO[str], log: IO[str]) -> int | None:
        """Copy output until the command has ended; its status, or None if the process ended instead."""
        for line in output:
            if line.startswith(DONE):
                return int(line.split()[1])
            log.write(line)
            log.flush()
            if line.strip():
                say(label, line.rstrip())
        return None

    def close(self) -> None:
        """End the process: a run in it saves its state first, for which it has a minute."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
