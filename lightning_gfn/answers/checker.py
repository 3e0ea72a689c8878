"""A few math-verify processes behind one question: are these two answers equal?"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightning_gfn.answers.process import MathVerifyProcess, ProcessDied, TimeLeft

MOST_WORKERS = 4
"""A batch of answers seldom needs more; each process holds about 80 MB."""
START_AFTER_SECONDS = 0.25
"""A further process takes about a second to start: it must be seen that checks wait for one, all together so long."""


def default_workers() -> int:
    """Cores that this process may use, shared by the ranks of this machine: at least 1, at most ``MOST_WORKERS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, min(MOST_WORKERS, cores // max(1, int(ranks) if ranks.isdecimal() else 1)))


@dataclass
class CheckerCounters:
    """Counters of the checks that this process has made so far.

    Args:
        checks: pairs sent to a worker.
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


class MathVerifyChecker:
    """Compares two answers by math-verify in persistent child processes; safe from any thread and after a fork.

    A check takes a running process that is free. Where checks wait for one, a further process is started, so that one
    check that is stuck holds up no other; who asks one pair after the other never starts a second process.

    Args:
        time_limit: wall-clock seconds for one check; the worker is killed then and the answer is wrong.
        memory_limit: bytes of address space of each worker.
        num_workers: processes at most; None for ``default_workers``.

    Raises:
        ValueError: there are fewer than one workers.
    """

    def __init__(self, *, time_limit: float = 2.0, memory_limit: int = 2**30, num_workers: int | None = None) -> None:
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"MathVerifyChecker: num_workers={num_workers} must be at least 1")
        self.time_limit, self.memory_limit, self._most = time_limit, memory_limit, num_workers
        self.counters = CheckerCounters()
        self._begin()
        _CHECKERS.add(self)

    @property
    def num_workers(self) -> int:
        """Processes at most."""
        return self._most if self._most is not None else default_workers()

    @property
    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def verify(self, predicted: str, reference: str, time_left: TimeLeft | None = None) -> bool:
        """Whether math-verify finds the two answers equal; False on a timeout, a crash or an error.

        A worker that dies is tried once more in a fresh one: it may have been killed from outside while idle.

        Args:
            predicted: the answer of a model, LaTeX or plain.
            reference: the right answer.
            time_left: of the answer that this check is a part of; the check takes its seconds off, but not those in
                which it waits for a worker. None gives the check the whole time limit.

        Returns:
            The verdict; False where no time is left.

        Raises:
            RuntimeError: if a worker cannot start.
        """
        time_left = time_left if time_left is not None else TimeLeft(self.time_limit)
        if time_left.seconds <= 0:
            return False
        request = json.dumps({"predicted": predicted, "reference": reference}).encode() + b"\n"
        with self._worker() as worker:
            self._count("checks")
            for _ in range(2):
                try:
                    reply = worker.ask(request, time_left)
                except TimeoutError:
                    self._count("timeouts")
                    return False
                except ProcessDied:
                    self._count("crashes")
                    continue
                self._count("errors", "error" in reply)
                return bool(reply["equal"])
            return False

    def close(self) -> None:
        """Kill the workers and collect them; the next check starts others."""
        for worker in self._workers:
            worker.close()

    def forget(self) -> None:
        """Drop workers and locks without touching them: after a fork they belong to the parent process."""
        for worker in self._workers:
            worker.forget()
        self._begin()

    def _begin(self) -> None:
        self._workers: list[MathVerifyProcess] = []
        self._free: list[MathVerifyProcess] = []
        self._changed = threading.Condition()
        self._waited = 0.0

    def _count(self, name: str, amount: int = 1) -> None:
        with self._changed:
            setattr(self.counters, name, getattr(self.counters, name) + amount)

    @contextmanager
    def _worker(self) -> Iterator[MathVerifyProcess]:
        """A worker that nobody else asks meanwhile."""
        with self._changed:
            begun = time.monotonic()
            while (worker := self._take(time.monotonic() - begun)) is None:
                left = START_AFTER_SECONDS - self._waited - (time.monotonic() - begun)
                self._changed.wait(left if left > 0 else START_AFTER_SECONDS)
        try:
            yield worker
        finally:
            with self._changed:
                self._free.append(worker)
                self._changed.notify()

    def _take(self, waited: float) -> MathVerifyProcess | None:
        """A free worker that runs; else one to be started, if none runs or checks have waited long enough for it."""
        running = [worker for worker in self._free if worker.pid is not None]
        impatient = self._waited + waited >= START_AFTER_SECONDS or len(self._free) == len(self._workers)
        if running:
            self._waited += waited
            chosen = running[-1]
        elif impatient and (self._free or len(self._workers) < self.num_workers):
            self._waited = 0.0
            chosen = self._free[-1] if self._free else MathVerifyProcess(self.time_limit, self.memory_limit)
        else:
            return None
        if chosen in self._free:
            self._free.remove(chosen)
        else:
            self._workers.append(chosen)
        return chosen


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
