"""The parent's side of the math-verify worker: starts it when first needed, kills it at a limit, starts it again."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
WORKER = Path(__file__).with_name("worker.py")


@dataclass
class CheckerCounters:
    """Counters of the checks that this process has made so far.

    Args:
        checks: pairs sent to the worker.
        timeouts: checks ended by killing the worker at the time limit.
        crashes: workers that died by themselves, of the memory limit for instance.
        errors: checks that math-verify ended with an exception.
        oversized: pairs refused because one text was longer than the size limit.
    """

    checks: int = 0
    timeouts: int = 0
    crashes: int = 0
    errors: int = 0
    oversized: int = 0


@dataclass
class TimeLeft:
    """What is left of the time of one answer, shared by all checks that it needs.

    Args:
        seconds: wall-clock seconds in which the worker may still think.
    """

    seconds: float


class _WorkerDied(Exception):
    """The worker closed its pipe."""


class MathVerifyChecker:
    """Compares two answers by math-verify in one persistent child process; safe from any thread and after a fork.

    The child is a program started by ``subprocess``, because daemonic processes (data-loader workers) may have no
    ``multiprocessing`` children and because a spawned one would import the user's main module again.

    Args:
        time_limit: wall-clock seconds for one check; the worker is killed then and the answer is wrong.
        memory_limit: bytes of address space of the worker.
    """

    def __init__(self, *, time_limit: float = 2.0, memory_limit: int = 2**30) -> None:
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.counters = CheckerCounters()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        _CHECKERS.add(self)

    @property
    def pid(self) -> int | None:
        """Process id of the living worker."""
        return self._process.pid if self._process is not None else None

    def verify(self, predicted: str, reference: str, time_left: TimeLeft | None = None) -> bool:
        """Whether math-verify finds the two answers equal; False on a timeout, a crash or an error.

        A worker that dies is tried once more in a fresh one: it may have been killed from outside while idle.

        Args:
            predicted: the answer of a model, LaTeX or plain.
            reference: the right answer.
            time_left: of the answer that this check is a part of; the check takes its seconds off. None gives the
                check the whole time limit.

        Returns:
            The verdict; False where no time is left.

        Raises:
            RuntimeError: if the worker cannot start.
        """
        time_left = time_left if time_left is not None else TimeLeft(self.time_limit)
        request = json.dumps({"predicted": predicted, "reference": reference}).encode() + b"\n"
        with self._lock:
            if time_left.seconds <= 0:
                return False
            self.counters.checks += 1
            for _ in range(2):
                try:
                    return self._ask(request, time_left)
                except TimeoutError:
                    self.counters.timeouts += 1
                    return False
                except _WorkerDied:
                    self.counters.crashes += 1
            return False

    def close(self) -> None:
        """Kill the worker and collect it; the next check starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                _close_quietly(pipe)

    def _ask(self, request: bytes, time_left: TimeLeft) -> bool:
        try:
            process = self._process if self._process is not None else self._start()
            assert process.stdin is not None
            started = time.monotonic()
            try:
                process.stdin.write(request)
            except OSError as error:
                raise _WorkerDied from error
            try:
                reply = _read_reply(process, time_left.seconds)
            finally:
                time_left.seconds -= time.monotonic() - started
        except BaseException:
            # After any interruption the pipes may hold half a message: only a fresh worker is in step.
            self.close()
            raise
        self.counters.errors += "error" in reply
        return bool(reply["equal"])

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
        except (TimeoutError, _WorkerDied) as error:
            raise RuntimeError(
                f"the answer checker ({WORKER.name}) did not start within {START_SECONDS:.0f} s or died at once; its "
                f"memory limit is {self.memory_limit} bytes"
            ) from error
        if not reply["ready"]:
            raise RuntimeError(f"the answer checker cannot use math-verify ({reply['error']}); pip install math-verify")
        return process

    def forget(self) -> None:
        """Drop the worker without touching it: after a fork it belongs to the parent process."""
        process, self._process = self._process, None
        self._lock = threading.Lock()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close_quietly(pipe)
            process.returncode = 0


def _read_reply(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """One line from the worker, or TimeoutError, or _WorkerDied."""
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
                raise _WorkerDied
            received += chunk
    return json.loads(received)


def _close_quietly(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:
        return


_CHECKERS: weakref.WeakSet[MathVerifyChecker] = weakref.WeakSet()


def _close_all() -> None:
    for checker in list(_CHECKERS):
        checker.close()


def _forget_all() -> None:
    for checker in list(_CHECKERS):
        checker.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
