"""Abstract base classes of theorem proving: ``LeanBackend`` drives one Lean, ``ProofEnvironment`` serves a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lightning_gfn.lean_types import CheckResult, LeanError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lightning_gfn.lean_types import StepResult, TacticState, Theorem

MAX_CHARS, MAX_CONTEXT_CHARS = 20_000, 200_000


class BackendFault(RuntimeError):
    """The process behind a backend died or had to be killed; its states are gone."""


class BackendTimeout(BackendFault):
    """No answer in time; the process was killed."""


class BackendUnavailable(RuntimeError):
    """The backend cannot work on this machine; the message says what to install."""


class LeanBackend(ABC):
    """One Lean process. Results are values; what goes wrong with the process is raised.

    States are immutable: several tactics may be tried on one state. After a ``BackendFault`` every earlier state is
    stale; the backend itself starts again at the next call. A backend of one's own writes ``_start``, ``_run_tac`` and
    ``_check``; texts longer than ``max_chars`` and ``max_context_chars`` never reach them.
    """

    name: str
    """Of the backend, recorded with results."""
    max_chars: int = MAX_CHARS
    """Longest statement, tactic or whole proof."""
    max_context_chars: int = MAX_CONTEXT_CHARS
    """Longest context of a theorem."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Lean's version as it reports itself."""

    def start(self, theorem: Theorem) -> TacticState | LeanError:
        """The first state of a theorem.

        Raises:
            BackendFault: the process broke.
        """
        refusal = self._too_long_theorem(theorem)
        return self._start(theorem) if refusal is None else LeanError(refusal, "statement")

    def run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """Run one tactic on a state of this backend; a finished proof has been checked from the statement.

        Raises:
            BackendFault: the process broke, or the state belongs to one that did.
        """
        refusal = self._too_long("tactic", len(tactic))
        return self._run_tac(state, tactic) if refusal is None else LeanError(refusal, "forbidden")

    def check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """Check a whole proof afresh, from its statement, by the kernel.

        Raises:
            BackendFault: the process broke.
        """
        refusal = self._too_long_theorem(theorem) or self._too_long("proof", sum(map(len, script)))
        return self._check(theorem, script) if refusal is None else CheckResult(False, refusal)

    @abstractmethod
    def _start(self, theorem: Theorem) -> TacticState | LeanError:
        """``start`` of a theorem that is not too long."""

    @abstractmethod
    def _run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """``run_tac`` of a tactic that is not too long."""

    @abstractmethod
    def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """``check`` of a theorem and a proof that are not too long."""

    def _limit_lengths(self, max_chars: int, max_context_chars: int) -> None:
        """Set both limits.

        Raises:
            ValueError: one is not positive.
        """
        for argument, value in (("max_chars", max_chars), ("max_context_chars", max_context_chars)):
            if value <= 0:
                raise ValueError(f"{type(self).__name__}: {argument}={value} must be positive")
        self.max_chars, self.max_context_chars = max_chars, max_context_chars

    def _too_long(self, what: str, chars: int, limit: str = "max_chars") -> str | None:
        """Why a text is refused; None if it is short enough."""
        most = getattr(self, limit)
        return f"the {what} has {chars} characters, more than {limit}={most}" if chars > most else None

    def _too_long_theorem(self, theorem: Theorem) -> str | None:
        context = sum(map(len, theorem.context))
        return self._too_long("statement", len(theorem.statement)) or self._too_long(
            "context", context, "max_context_chars"
        )

    def release(self, states: Sequence[TacticState]) -> None:  # noqa: B027 - many backends hold nothing
        """These states will not be used again."""

    def resident_bytes(self) -> int:
        """Memory that the process holds; 0 if there is none or nobody knows."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """End the process; the backend may be used again, and then starts a new one."""


class ProofEnvironment(ABC):
    """Lean as training sees it: states are named by theorem and script, and no fault is ever raised.

    Calls return at once; the work is done elsewhere, in parallel. What the backend could not do, even when tried again,
    comes back as a ``LeanError`` of kind ``fault`` (or an unverified ``CheckResult``) and is counted.
    """

    @abstractmethod
    def setup(self) -> None:
        """Called before training and before weights are loaded.

        Raises:
            BackendUnavailable: the backend cannot work here.
        """

    @abstractmethod
    def start(self, theorem: Theorem) -> Future[TacticState | LeanError]:
        """The first state of a theorem."""

    @abstractmethod
    def run_tac(self, theorem: Theorem, script: Sequence[str], tactic: str) -> Future[StepResult]:
        """Run one tactic in the state that ``script`` led to; every tactic of ``script`` must have succeeded."""

    @abstractmethod
    def check(self, theorem: Theorem, script: Sequence[str]) -> Future[CheckResult]:
        """Check a whole proof afresh, from its statement."""

    @abstractmethod
    def counters(self) -> Mapping[str, float]:
        """Totals since the beginning: ``steps``, ``cached``, ``errors``, ``timeouts``, ``restarts``, ``seconds``."""

    @abstractmethod
    def describe(self) -> Mapping[str, str]:
        """Backend and Lean version, for the record of a run."""

    @abstractmethod
    def close(self) -> None:
        """End all workers; the environment may be used again, and then starts new ones."""
