"""Threads that each own a worker: queues, stealing, retries, and the watch over those that do not answer."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from lightning_gfn.environments.pooling.cache import Answer, Counters, FaultCounts, ResultCache
from lightning_gfn.environments.pooling.workers import LeanWorker, Request
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout
from lightning_gfn.lean_types import LeanError

LOG = logging.getLogger(__name__)
PATIENCE_S = 0.05
"""After so long a wait a request is stolen even if its script must be run again."""
CLOSE_S = 5.0
"""Closing waits so long for all workers together; what has not ended by then is left to itself."""
CLOSED = "the environment was closed before this was answered"


@dataclass(eq=False)
class _Task:
    """A request and everyone who waits for its answer."""

    request: Request
    waiters: list[Future[Any]] = field(default_factory=list)


class _Slot:
    """The place of a worker; when the worker hangs, another slot takes its place."""

    def __init__(self, worker: LeanWorker, queue: deque[_Task], lock: threading.RLock) -> None:
        self.worker, self.queue = worker, queue
        self.wake = threading.Condition(lock)
        self.task: _Task | None = None
        self.busy_since: float | None = None
        self.left = False
        self.thread: threading.Thread | None = None


class Scheduler:
    """Runs requests on workers; every request is answered, whatever happens to them.

    A request goes to the worker in which its state is alive, else to the shortest queue; a worker without work takes
    from the longest queue of another one. Requests that are the same and under way are run once.

    Args:
        make_worker: makes a worker; its process need not run yet.
        num_workers: how many.
        timeout: seconds after which a worker that has not answered is replaced.
        retries: how often a request is tried again after a fault.
        results: answers of earlier.
        strikes: requests that killed processes.
        tally: totals.
    """

    def __init__(
        self,
        make_worker: Callable[[], LeanWorker],
        num_workers: int,
        timeout: float,
        retries: int,
        results: ResultCache,
        strikes: FaultCounts,
        tally: Counters,
    ) -> None:
        self.make_worker, self.timeout, self.retries = make_worker, timeout, retries
        self.results, self.strikes, self.tally = results, strikes, tally
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._pending: dict[Hashable, _Task] = {}
        self._closing = threading.Event()
        self._slots = [_Slot(make_worker(), deque(), self._lock) for _ in range(num_workers)]
        for slot in self._slots:
            self._run(slot)
        threading.Thread(target=self._watch, name="lean-watch", daemon=True).start()

    def _run(self, slot: _Slot) -> None:
        slot.thread = threading.Thread(target=self._serve, args=(slot,), name="lean-worker", daemon=True)
        slot.thread.start()

    def submit(self, request: Request) -> Future[Any]:
        """Ask for an answer, which may be there already."""
        future: Future[Any] = Future()
        known = self.results.get(request.key) or self.strikes.verdict(request.key)
        if known is None:
            with self._lock:
                if self._closing.is_set():
                    known = request.refused(CLOSED)
                elif not self._joined(request, future):
                    # Between the first look and the lock the answer may have come.
                    known = self.results.get(request.key)
                    if known is None:
                        self._enqueue(_Task(request, [future]))
        if known is not None:
            self._deliver(request, [future], known, cached=True)
        return future

    def _joined(self, request: Request, future: Future[Any]) -> bool:
        """Wait together with others for the same answer."""
        task = self._pending.get(request.key) if self.results.size else None
        if task is not None:
            task.waiters.append(future)
        return task is not None

    def _enqueue(self, task: _Task) -> None:
        holders = [slot for slot in self._slots if slot.worker.holds(task.request.state_key)]
        slot = min(holders or self._slots, key=lambda one: len(one.queue) + (one.busy_since is not None))
        slot.queue.append(task)
        self._pending[task.request.key] = task
        slot.wake.notify()
        if slot.busy_since is not None:
            for other in self._slots:
                if other.busy_since is None and not other.queue:
                    other.wake.notify()
                    break

    def _next(self, slot: _Slot) -> _Task | None:
        """Wait for the next task of a worker; None if it should end."""
        with self._lock:
            slot.busy_since = None
            while not slot.left:
                task = slot.queue.popleft() if slot.queue else self._steal(slot)
                if task is not None:
                    slot.task, slot.busy_since = task, time.monotonic()
                    return task
                slot.wake.wait(PATIENCE_S if any(other.queue for other in self._slots) else None)
            return None

    def _steal(self, thief: _Slot) -> _Task | None:
        """The last task of the longest queue whose worker is busy, if to wait would take longer than to replay."""
        now = time.monotonic()
        for victim in sorted(self._slots, key=lambda slot: -len(slot.queue)):
            if not victim.queue or victim.busy_since is None:
                continue
            request = victim.queue[-1].request
            replay = 0 if thief.worker.holds(request.state_key) else len(request.script)
            free = request.kind != "tactic" or len(victim.queue) > replay
            if free or now - victim.busy_since >= PATIENCE_S:
                self.tally.add(stolen=1)
                return victim.queue.pop()
        return None

    def _serve(self, slot: _Slot) -> None:
        """What the thread of a worker does."""
        try:
            while (task := self._next(slot)) is not None:
                answer = self._answer(slot, task.request)
                if slot.left:
                    break
                self._finish(slot, task, answer)
                self._guarded(slot.worker.recycle)
        finally:
            if slot.left:
                self._guarded(slot.worker.backend.close)

    def _answer(self, slot: _Slot, request: Request) -> Answer:
        """The answer of a worker; after faults that of a new process, or what went wrong."""
        begun = time.monotonic()
        answer = request.refused("not tried")
        for _ in range(self.retries + 1):
            slot.busy_since = time.monotonic()
            try:
                answer = slot.worker.perform(request)
                break
            except BackendTimeout as error:
                answer = request.refused(str(error), "timeout")
            except BackendFault as error:
                answer = request.refused(f"the Lean process broke: {error}")
            except Exception as error:  # no fault of a worker may end a training run
                LOG.warning("a Lean worker failed on %r", request.tactic or request.theorem.name, exc_info=True)
                answer = request.refused(f"{type(error).__name__}: {error}")
            if slot.left:
                break
            self._guarded(slot.worker.restart)
            self.tally.add(restarts=1)
            if self._struck(request, answer) or _kind(answer) == "timeout":
                break
        self.tally.add(seconds=time.monotonic() - begun)
        return answer

    def _struck(self, request: Request, failure: Answer) -> bool:
        known = failure if isinstance(failure, LeanError) else LeanError(getattr(failure, "message", ""), "fault")
        return self.strikes.add(request.key, known)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            LOG.warning("a Lean worker could not be ended properly", exc_info=True)

    def _finish(self, slot: _Slot, task: _Task, answer: Answer) -> None:
        with self._lock:
            if slot.left:
                return
            slot.task = None
            self.results.keep(task.request.key, answer)
            self._forget(task)
        self._deliver(task.request, task.waiters, answer)

    def _forget(self, task: _Task) -> None:
        if self._pending.get(task.request.key) is task:
            del self._pending[task.request.key]

    def _deliver(self, request: Request, waiters: list[Future[Any]], answer: Answer, cached: bool = False) -> None:
        """Give an answer to everyone who waits; all but the first have it for nothing."""
        if isinstance(answer, LeanError) and request.kind in ("check", "version"):
            answer = request.refused(answer.message)
        for number, future in enumerate(waiters):
            if request.kind == "tactic":
                self.tally.answer(answer, cached=cached or number > 0)
            if future.set_running_or_notify_cancel():
                future.set_result(answer)

    def _watch(self) -> None:
        """Replace workers that do not answer."""
        while not self._closing.wait(min(1.0, self.timeout / 4)):
            late = time.monotonic() - self.timeout
            for index, slot in enumerate(self._slots):
                if slot.busy_since is not None and slot.busy_since < late:
                    self._replace(index, late)

    def _replace(self, index: int, late: float) -> None:
        with self._lock:
            slot = self._slots[index]
            if self._closing.is_set() or slot.busy_since is None or slot.busy_since >= late:
                return
            slot.left = True
            task, slot.task = slot.task, None
            self._slots[index] = _Slot(self.make_worker(), slot.queue, self._lock)
            if task is not None:
                self._forget(task)
        threading.Thread(target=self._guarded, args=(slot.worker.backend.close,), daemon=True).start()
        self.tally.add(restarts=1, seconds=self.timeout)
        self._run(self._slots[index])
        if task is not None:
            failure = task.request.refused(f"no answer within {self.timeout:g} s (environment.timeout)", "timeout")
            self._struck(task.request, failure)
            self._deliver(task.request, task.waiters, failure)

    def close(self) -> None:
        """End all workers; what is not answered yet is answered by an error. It takes at most ``CLOSE_S`` seconds."""
        if os.getpid() != self.pid:
            return  # the threads and processes are those of the process that this one was forked from
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
            tasks = [slot.task for slot in self._slots if slot.task is not None]
            for slot in self._slots:
                tasks += slot.queue
                slot.left, slot.task = True, None
                slot.queue.clear()
                slot.wake.notify_all()
            self._pending.clear()
        threads = [cast(threading.Thread, slot.thread) for slot in self._slots]
        for slot in self._slots:
            threads.append(threading.Thread(target=self._guarded, args=(slot.worker.backend.close,), daemon=True))
            threads[-1].start()
        for task in tasks:
            self._deliver(task.request, task.waiters, task.request.refused(CLOSED))
        deadline = time.monotonic() + CLOSE_S
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))


def _kind(answer: Answer) -> str:
    return answer.kind if isinstance(answer, LeanError) else ""
