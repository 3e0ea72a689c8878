"""One math-verify process as its parent sees it: started when first asked, killed at a limit, then started anew."""

from __future__ import annotations

import json
import multiprocessing
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
WORKER = Path(__file__).with_name("worker.py")


@dataclass
class TimeLeft:
    """What is left of the time of one answer, shared by all checks that it needs.

    Args:
        seconds: wall-clock seconds in which a worker may still think.
    """

    seconds: float


class ProcessDied(Exception):
    """The process closed its pipe."""


class MathVerifyProcess:
    """A child process that compares two answers by math-verify; one thread at a time may ask it.

    The child is a program started by ``subprocess``, because daemonic processes (data-loader workers) may have no
    ``multiprocessing`` children and because a spawned one would import the user's main module again.

    Args:
        time_limit: wall-clock seconds for one check, after which the child ends itself if its parent is gone.
        memory_limit: bytes of its address space.
    """

    def __init__(self, time_limit: float, memory_limit: int) -> None:
        self.time_limit, self.memory_limit = time_limit, memory_limit
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None if none runs."""
        return self._process.pid if self._process is not None else None

    def ask(self, request: bytes, time_left: TimeLeft) -> dict[str, Any]:
        """The reply to one request; its seconds are taken off what is left.

        Raises:
            TimeoutError: no reply in the time left; the child was killed.
            ProcessDied: the child ended.
            RuntimeError: a child cannot start.
        """
        try:
            process = self._process if self._process is not None else self._start()
            assert process.stdin is not None
            started = time.monotonic()
            try:
                process.stdin.write(request)
            except OSError as error:
                raise ProcessDied from error
            try:
                return _read_reply(process, time_left.seconds)
            finally:
                time_left.seconds -= time.monotonic() - started
        except BaseException:
            # After any interruption the pipes may hold half a message: only a fresh child is in step.
            self.close()
            raise

    def close(self) -> None:
        """Kill the child and collect it; the next request starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        _close_pipes(process)

    def forget(self) -> None:
        """Drop the child without touching it: after a fork it belongs to the parent process."""
        process, self._process = self._process, None
        if process is not None:
            _close_pipes(process)
            process.returncode = 0

    def _start(self) -> subprocess.Popen[bytes]:
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry))
        arguments = [sys.executable, "-P", str(WORKER), str(self.time_limit), str(self.memory_limit)]
        # Unbuffered: a fork in the middle of a request must not inherit bytes that it would write a second time.
        self._process = process = subprocess.Popen(
            arguments,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        if multiprocessing.parent_process() is not None:
            # A multiprocessing child leaves without the atexit functions.
            Finalize(self, self.close, exitpriority=10)
        try:
            reply = _read_reply(process, START_SECONDS)
        except (TimeoutError, ProcessDied) as error:
            raise RuntimeError(
                f"the answer checker ({WORKER.name}) did not start within {START_SECONDS:.0f} s or died at once; its "
                f"memory limit is {self.memory_limit} bytes"
            ) from error
        if not reply["ready"]:
            raise RuntimeError(f"the answer checker cannot use math-verify ({reply['error']}); pip install math-verify")
        return process


def _read_reply(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """One line from the child, or TimeoutError, or ProcessDied."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    received = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise ProcessDied
            received += chunk
    return json.loads(received)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:
            continue
