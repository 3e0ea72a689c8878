"""One worker of the pool: a backend, the states alive in it, and their reconstruction from scripts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lightning_gfn.environments.pooling.cache import Answer, Counters
from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, TacticState, Theorem

RESIDENT_EVERY = 16
"""The memory of a process is looked at after so many requests."""


@dataclass(frozen=True)
class Request:
    """One question to a worker.

    Args:
        kind: ``start``, ``tactic``, ``check``; ``version`` is answered by a ``CheckResult`` with it as message.
        theorem: that it is about.
        script: the tactics before, or the whole proof.
        tactic: to be run.
    """

    kind: Literal["start", "tactic", "check", "version"]
    theorem: Theorem
    script: tuple[str, ...] = ()
    tactic: str = ""

    @cached_property
    def state_key(self) -> Hashable:
        """Names the state that the tactic is run in."""
        return theorem_key(self.theorem), self.script

    @cached_property
    def key(self) -> Hashable:
        """Names the answer."""
        return self.kind, self.state_key, self.tactic

    def refused(self, message: str, kind: Literal["fault", "timeout", "forbidden"] = "fault") -> Answer:
        """The answer if there is none."""
        return CheckResult(False, message) if self.kind in ("check", "version") else LeanError(message, kind)


def theorem_key(theorem: Theorem) -> Hashable:
    """The key that distinguishes theorems: everything but their known proofs."""
    return theorem.name, theorem.statement, theorem.context, theorem.imports, theorem.location


@dataclass(frozen=True)
class WorkerLimits:
    """When a worker forgets and when its process is replaced.

    Args:
        max_states: that are kept alive in it.
        max_steps: after so many tactics the process is replaced; 0: never.
        max_resident_mb: beyond it the process is replaced; 0: never.
        verify: a finished proof is checked from its statement before it counts.
    """

    max_states: int = 1000
    max_steps: int = 0
    max_resident_mb: float = 0.0
    verify: bool = True


class LeanWorker:
    """Answers requests one after the other; a state that is not alive is rebuilt by running its script again.

    Args:
        backend: its own.
        limits: of memory and age.
        tally: where replayed tactics and replaced processes are counted.
    """

    def __init__(self, backend: LeanBackend, limits: WorkerLimits, tally: Counters) -> None:
        self.backend, self.limits, self.tally = backend, limits, tally
        self._live: OrderedDict[Hashable, TacticState] = OrderedDict()
        self._steps = 0
        self._requests = 0

    def holds(self, state_key: Hashable) -> bool:
        """The state is alive here."""
        return state_key in self._live

    def perform(self, request: Request) -> Answer:
        """Answer one request.

        Raises:
            BackendFault: the process broke; call ``restart``.
        """
        self._requests += 1
        if request.kind == "version":
            return CheckResult(True, self.backend.version)
        if request.kind == "check":
            return self.backend.check(request.theorem, request.script)
        state = self._state(request.theorem, request.script)
        if isinstance(state, LeanError):
            return state
        return self._step(request, state) if request.kind == "tactic" else TacticState(state.goals)

    def _step(self, request: Request, state: TacticState) -> Answer:
        script = (*request.script, request.tactic)
        result = self.backend.run_tac(state, request.tactic)
        self._steps += 1
        if isinstance(result, TacticState):
            self._keep((theorem_key(request.theorem), script), result)
            return TacticState(result.goals)
        if isinstance(result, ProofFinished) and self.limits.verify:
            checked = self.backend.check(request.theorem, script)
            if not checked.verified:
                return LeanError(f"the finished proof does not survive its check: {checked.message}", "unsound")
            return ProofFinished(checked.axioms)
        return result

    def _state(self, theorem: Theorem, script: tuple[str, ...]) -> TacticState | LeanError:
        """The state that a script leads to; only what is not alive any more is run again."""
        key = theorem_key(theorem)
        done = next((n for n in range(len(script), -1, -1) if (key, script[:n]) in self._live), None)
        if done is None:
            done = 0
            state = self.backend.start(theorem)
            if isinstance(state, LeanError):
                return state
            self._keep((key, ()), state)
        else:
            state = self._live[(key, script[:done])]
            self._live.move_to_end((key, script[:done]))
        for position in range(done, len(script)):
            result = self.backend.run_tac(state, script[position])
            self._steps += 1
            self.tally.add(replayed=1)
            if not isinstance(result, TacticState):
                return LeanError(f"tactic {position + 1} of the script, `{script[position]}`, gave {result}", "fault")
            state = result
            self._keep((key, script[: position + 1]), state)
        return state

    def _keep(self, key: Hashable, state: TacticState) -> None:
        superseded = [self._live.pop(key)] if key in self._live else []
        self._live[key] = state
        if len(self._live) > self.limits.max_states:
            # Several at once: a release can be a message to another process.
            excess = len(self._live) - self.limits.max_states + self.limits.max_states // 10
            superseded += [self._live.popitem(last=False)[1] for _ in range(excess)]
        if superseded:
            self.backend.release(superseded)

    def restart(self) -> None:
        """End the process; the next request starts another one."""
        self._live.clear()
        self._steps = 0
        self.backend.close()

    def recycle(self) -> None:
        """End the process if it is too old or too big."""
        limits = self.limits
        worn = 0 < limits.max_steps <= self._steps
        if not worn and limits.max_resident_mb and self._requests % RESIDENT_EVERY == 0:
            worn = self.backend.resident_bytes() > limits.max_resident_mb * 2**20
        if worn:
            self.restart()
            self.tally.add(recycled=1)
