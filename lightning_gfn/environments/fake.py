"""A Lean for tests: propositional logic in pure Python, with faults on demand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lightning_gfn.environments.fake_lean.propositional import Refused, read_statement
from lightning_gfn.environments.fake_lean.tactics import Goal, run
from lightning_gfn.lean_interfaces import MAX_CHARS, MAX_CONTEXT_CHARS, BackendFault, BackendTimeout, LeanBackend
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState, Theorem


class FakeLean(LeanBackend):
    """Propositional logic (``→ ∧ ∨ ↔ ¬ True False``, variables, hypotheses) proved tactic by tactic, as Lean does.

    It knows ``intro``, ``exact``, ``apply`` (with terms: application, ``⟨a, b⟩``, ``fun``, ``h.1``, ``Or.inl h``),
    ``constructor``, ``left``, ``right``, ``cases h``, ``rcases h with a | b``, ``obtain ⟨a, b⟩ := h``, ``assumption``,
    ``contradiction``, ``trivial`` and ``exfalso``. It is meant to accept nothing that Lean refuses.

    Args:
        latency: seconds that every call takes.
        crash_on: tactics that kill the process, always.
        crash_every: every so many tactics the process dies before it answers; 0: never.
        timeout_on: tactics that take too long.
        hang_on: tactics that never return, until the backend is closed from elsewhere.
        lie_on: tactics that claim to finish the proof although ``check`` refuses it.
        resident_mb: what it says it holds at first.
        growth_mb: and how much more with every tactic.
        max_chars: longest statement, tactic or whole proof; a longer one is refused before Lean sees it.
        max_context_chars: longest context.
    """

    name = "fake"

    def __init__(
        self,
        latency: float = 0.0,
        crash_on: Sequence[str] = (),
        crash_every: int = 0,
        timeout_on: Sequence[str] = (),
        hang_on: Sequence[str] = (),
        lie_on: Sequence[str] = (),
        resident_mb: float = 0.0,
        growth_mb: float = 0.0,
        max_chars: int = MAX_CHARS,
        max_context_chars: int = MAX_CONTEXT_CHARS,
    ) -> None:
        if latency < 0 or crash_every < 0 or resident_mb < 0 or growth_mb < 0:
            raise ValueError("backend.latency, crash_every, resident_mb and growth_mb must not be negative")
        self._limit_lengths(max_chars, max_context_chars)
        self.latency = latency
        self.crash_on, self.crash_every = tuple(crash_on), crash_every
        self.timeout_on, self.hang_on, self.lie_on = tuple(timeout_on), tuple(hang_on), tuple(lie_on)
        self.resident_mb, self.growth_mb = resident_mb, growth_mb
        self.calls = 0
        self._steps_of_process = 0
        self._process = 0
        self._states: dict[int, tuple[Goal, ...]] = {}
        self._next = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins with a process of its own."""
        return {**self.__dict__, "calls": 0, "_steps_of_process": 0, "_process": 0, "_states": {}, "_next": 0}

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot work here: it always can."""
        return None

    @property
    def version(self) -> str:
        """Of this fragment."""
        return "propositional logic"

    @property
    def num_states(self) -> int:
        """The number of states that it holds."""
        return len(self._states)

    def _start(self, theorem: Theorem) -> TacticState | LeanError:
        """The first state of a theorem."""
        time.sleep(self.latency)
        try:
            sequent = read_statement(theorem.statement, theorem.context)
        except Refused as error:
            return LeanError(str(error), "statement")
        return self._keep((Goal(sequent),))

    def _run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """Run one tactic on a state of this backend.

        Raises:
            BackendFault: as the arguments ask for, or the state belongs to a process that ended.
        """
        time.sleep(self.latency)
        if state.key[:1] != (self._process,) or state.key[1] not in self._states:
            raise BackendFault("stale state: its process is gone, or it was released")
        self.calls += 1
        self._steps_of_process += 1
        self._misbehave(tactic)
        if tactic in self.lie_on:
            return ProofFinished()
        try:
            goals = run(self._states[state.key[1]], tactic)
        except Refused as error:
            return LeanError(str(error))
        return self._keep(goals) if goals else ProofFinished()

    def _misbehave(self, tactic: str) -> None:
        if tactic in self.crash_on or (self.crash_every and self.calls % self.crash_every == 0):
            self.close()
            raise BackendFault(f"the process died of `{tactic}`")
        if tactic in self.timeout_on:
            self.close()
            raise BackendTimeout(f"no answer to `{tactic}`")
        if tactic in self.hang_on:
            process = self._process
            while process == self._process:
                time.sleep(0.005)
            raise BackendFault(f"the process was ended during `{tactic}`")

    def _keep(self, goals: tuple[Goal, ...]) -> TacticState:
        self._next += 1
        self._states[self._next] = goals
        return TacticState(tuple(map(str, goals)), (self._process, self._next))

    def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """Check a whole proof afresh, from its statement."""
        time.sleep(self.latency)
        try:
            goals: tuple[Goal, ...] = (Goal(read_statement(theorem.statement, theorem.context)),)
            for tactic in script:
                if not goals:
                    raise Refused("no goals to be solved")
                goals = run(goals, tactic)
        except Refused as error:
            return CheckResult(False, str(error))
        return CheckResult(True) if not goals else CheckResult(False, f"unsolved goals\n{goals[0]}")

    def release(self, states: Sequence[TacticState]) -> None:
        """These states will not be used again."""
        for state in states:
            if state.key[:1] == (self._process,):
                self._states.pop(state.key[1], None)

    def resident_bytes(self) -> int:
        """The memory that the arguments let the process claim."""
        return int((self.resident_mb + self.growth_mb * self._steps_of_process) * 2**20)

    def close(self) -> None:
        """End the process: its states are stale."""
        self._process += 1
        self._steps_of_process = 0
        self._states = {}
