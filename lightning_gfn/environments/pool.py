"""Many Lean processes behind one environment."""

from __future__ import annotations

import copy
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from lightning_gfn.environments.configuration_copies import ConfigurationCopies
from lightning_gfn.environments.pooling.cache import Answer, Counters, FaultCounts, ResultCache
from lightning_gfn.environments.pooling.scheduler import Scheduler
from lightning_gfn.environments.pooling.workers import LeanWorker, Request, WorkerLimits
from lightning_gfn.environments.rules import TacticRules
from lightning_gfn.lean_interfaces import BackendUnavailable, LeanBackend, ProofEnvironment
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState, Theorem

TRIAL = Theorem("lightning_gfn_trial", "(p : Prop) (hp : p) : p")
TRIAL_TACTIC = "exact hp"


class LeanPool(ConfigurationCopies, ProofEnvironment):
    """Lean processes that work in parallel, start again after a crash, and check every finished proof.

    States are named by theorem and script: a worker that does not hold a state runs its script again, so that answers
    depend neither on how many workers there are nor on which of them crashed. A finished proof counts only after
    ``check`` has accepted the whole script from the statement; otherwise it is a ``LeanError`` of kind ``unsound``.

    Workers start at the first use. A copy or pickle of a pool is its configuration: it starts workers of its own.

    Args:
        backend: every worker works with a copy of it.
        num_workers: Lean processes; each of the embedded Lean holds about 2 GB.
        rules: what a tactic may say; None: everything.
        timeout: seconds after which a worker that has not answered is replaced, its start included; the backend's own
            limits should be far lower.
        max_steps_per_worker: after so many tactics a process is replaced; 0: never.
        max_resident_mb: a process that holds more is replaced; 0: never.
        max_states_per_worker: states kept alive in a process; others are rebuilt from their scripts.
        retries: how often a tactic is tried again after its process broke; one that broke two is never sent again.
        cache_size: answers that are remembered; 0: none.
        cache_timeouts: also remember that a tactic took too long.
        verify: check a finished proof from its statement before it counts.
        ray: run every backend in a Ray actor, on any machine of the cluster that ``RAY_ADDRESS`` names.
    """

    def __init__(
        self,
        backend: LeanBackend,
        num_workers: int = 1,
        rules: TacticRules | None = None,
        timeout: float = 300.0,
        max_steps_per_worker: int = 20_000,
        max_resident_mb: float = 3000.0,
        max_states_per_worker: int = 1000,
        retries: int = 1,
        cache_size: int = 50_000,
        cache_timeouts: bool = False,
        verify: bool = True,
        ray: bool = False,
    ) -> None:
        for name, value, least in (
            ("num_workers", num_workers, 1), ("max_states_per_worker", max_states_per_worker, 1),
            ("max_steps_per_worker", max_steps_per_worker, 0), ("max_resident_mb", max_resident_mb, 0),
            ("retries", retries, 0), ("cache_size", cache_size, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"environment.{name}={value} must be at least {least}")
        if timeout <= 0:
            raise ValueError(f"environment.timeout={timeout} must be positive (seconds)")
        self.backend, self.rules, self.num_workers = backend, rules, num_workers
        self.timeout, self.retries, self.ray = timeout, retries, ray
        self.cache_size, self.cache_timeouts = cache_size, cache_timeouts
        self.limits = WorkerLimits(max_states_per_worker, max_steps_per_worker, max_resident_mb, verify)
        self._forget()

    def _forget(self) -> None:
        """Nothing runs, nothing is remembered, in this process."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._scheduler: Scheduler | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._results = ResultCache(self.cache_size, self.cache_timeouts)
        self._strikes, self._tally = FaultCounts(), Counters()
        self._version = ""

    def _running(self) -> Scheduler:
        """The workers, which are started if there are none in this process."""
        if self._pid != os.getpid():  # forked: threads and locks of the other process mean nothing here
            if self._finalizer is not None:
                self._finalizer.detach()
            self._forget()
        with self._lock:
            if self._scheduler is None:
                self._scheduler = Scheduler(
                    _WorkerMaker(self.backend, self.limits, self._tally, self.ray, self.timeout), self.num_workers,
                    self.timeout, self.retries, self._results, self._strikes, self._tally,
                )  # fmt: skip
                # Closes the workers when the pool is collected and when the interpreter ends.
                self._finalizer = weakref.finalize(self, self._scheduler.close)
            return self._scheduler

    def setup(self) -> None:
        """Start a worker and prove a trivial theorem.

        Raises:
            BackendUnavailable: the backend cannot work here; the message says why and what to do.
        """
        reason = None if self.ray else getattr(type(self.backend), "unavailable", lambda: None)()
        if reason:
            raise BackendUnavailable(f"environment.backend {self.backend.name!r}: {reason}")
        if getattr(self.backend, "traced_only", False):
            return
        workers = self._running()
        first = workers.submit(Request("start", TRIAL)).result()
        last = workers.submit(Request("tactic", TRIAL, (), TRIAL_TACTIC)).result()
        if not (isinstance(first, TacticState) and isinstance(last, ProofFinished)):
            said = last.message if isinstance(last, LeanError) else str(last)
            raise BackendUnavailable(
                f"environment.backend {self.backend.name!r} cannot prove `{TRIAL.statement}` by `{TRIAL_TACTIC}`: "
                f"{said}; run `lightning-gfn lean doctor`"
            )

    def start(self, theorem: Theorem) -> Future[TacticState | LeanError]:
        """The first state of a theorem."""
        return self._running().submit(Request("start", theorem))

    def run_tac(self, theorem: Theorem, script: Sequence[str], tactic: str) -> Future[StepResult]:
        """Run one tactic in the state that ``script`` led to; every tactic of ``script`` must have succeeded."""
        workers = self._running()
        self._tally.add(steps=1)
        refusal = self._refusal(tactic)
        if refusal is not None:
            error = LeanError(refusal, "forbidden")
            self._tally.answer(error, cached=False)
            return _done(error)
        return workers.submit(Request("tactic", theorem, tuple(script), tactic))

    def check(self, theorem: Theorem, script: Sequence[str]) -> Future[CheckResult]:
        """Check a whole proof afresh, from its statement; a tactic that breaks the rules makes it unverified."""
        workers = self._running()
        for tactic in script:
            refusal = self._refusal(tactic)
            if refusal is not None:
                return _done(CheckResult(False, refusal))
        return workers.submit(Request("check", theorem, tuple(script)))

    def _refusal(self, tactic: str) -> str | None:
        return None if self.rules is None else self.rules.refusal(tactic)

    def counters(self) -> Mapping[str, float]:
        """Totals since the beginning.

        ``steps`` tactics asked for, of these ``cached`` answered from memory and ``errors`` failed (``timeouts``,
        ``forbidden``, ``faults`` and ``unsound`` among them); ``restarts`` of processes after faults, ``recycled``
        ones; ``replayed`` tactics of scripts; ``stolen`` requests; ``seconds`` that all workers together were busy.
        """
        return self._tally.totals()

    def describe(self) -> Mapping[str, str]:
        """Backend and Lean version, for the record of a run."""
        if not self._version:
            answer = self._running().submit(Request("version", TRIAL)).result()
            self._version = answer.message if answer.verified else ""
        return {"backend": self.backend.name, "lean_version": self._version or "unknown"}

    def close(self) -> None:
        """End all workers; what is not answered yet is answered by an error of kind ``fault``."""
        if self._pid != os.getpid():
            return
        with self._lock:
            scheduler, self._scheduler = self._scheduler, None
            if self._finalizer is not None:
                self._finalizer.detach()
                self._finalizer = None
        if scheduler is not None:
            scheduler.close()


class _WorkerMaker:
    """Makes workers, each with a copy of the backend. It knows the pool's parts, but not the pool, which may go."""

    def __init__(self, backend: LeanBackend, limits: WorkerLimits, tally: Counters, ray: bool, timeout: float) -> None:
        self.backend, self.limits, self.tally, self.ray, self.timeout = backend, limits, tally, ray, timeout

    def __call__(self) -> LeanWorker:
        try:
            backend = copy.deepcopy(self.backend)
        except TypeError as error:
            raise BackendUnavailable(
                f"environment.backend {self.backend.name!r} cannot be copied ({error}); give the pool one that has not "
                "been used, or a __getstate__ that leaves its process out"
            ) from error
        if self.ray:
            from lightning_gfn.environments.ray_actor import RayLean, connect

            connect()
            # The actor gives up first, so that its answer says what happened.
            backend = RayLean(backend, 0.9 * self.timeout)
        return LeanWorker(backend, self.limits, self.tally)


def _done(answer: Answer) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(answer)
    return future
