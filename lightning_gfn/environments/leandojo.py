"""LeanDojo as a backend: theorems of traced repositories, among them those of LeanDojo Benchmark 4."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.environments.configuration_copies import ConfigurationCopies, missing_tools
from lightning_gfn.environments.whole_proofs import refusal, tactic_error
from lightning_gfn.lean_interfaces import (
    MAX_CHARS,
    MAX_CONTEXT_CHARS,
    BackendFault,
    BackendTimeout,
    BackendUnavailable,
    LeanBackend,
)
from lightning_gfn.lean_types import (
    NO_GOALS,
    CheckResult,
    LeanError,
    Location,
    ProofFinished,
    StepResult,
    TacticState,
    Theorem,
)

_ENTERING = threading.Lock()
"""``Dojo.__enter__`` changes the working directory of this process."""


class LeanDojoBackend(ConfigurationCopies, LeanBackend):
    """Lean as LeanDojo runs it: one process per theorem, of which some are kept open.

    The theorem's repository must have been traced, or is traced (or fetched traced) at its first use, which takes a
    network, minutes to hours, and ``elan``. LeanDojo changes the working directory while it starts a theorem; if
    other threads need it, let the pool run its workers in Ray actors (``ray: true``). A state after a timeout is dead.

    Args:
        timeout: seconds for one tactic, and for a theorem to start.
        max_open: theorems whose process is kept.
        additional_imports: modules that the theorem's file imports besides its own.
        build_deps: trace the repository's dependencies as well.
        max_chars: longest statement, tactic or whole proof; a longer one is refused before Lean sees it.
        max_context_chars: longest context.

    Source: Yang et al. 2023, arXiv:2306.15626; lean_dojo 4.20.
    """

    name = "leandojo"
    traced_only = True
    """It proves no statement that stands alone, so the pool cannot try it before training."""

    def __init__(
        self,
        timeout: int = 600,
        max_open: int = 4,
        additional_imports: Sequence[str] = (),
        build_deps: bool = True,
        max_chars: int = MAX_CHARS,
        max_context_chars: int = MAX_CONTEXT_CHARS,
    ) -> None:
        if timeout < 1 or max_open < 1:
            raise ValueError(f"LeanDojoBackend: timeout={timeout} and max_open={max_open} must be at least 1")
        self.timeout, self.max_open, self.build_deps = timeout, max_open, build_deps
        self.additional_imports = tuple(additional_imports)
        self._limit_lengths(max_chars, max_context_chars)
        self._forget()

    def _forget(self) -> None:
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._count = 0
        self._lean_version = ""

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot work here; None if everything but the traced repository is there."""
        missing = missing_tools(
            "lean_dojo", "the package lean-dojo (pip install lean-dojo, on Python 3.11 or 3.12)", "git 2.25 or newer"
        )
        if not missing:
            return None
        return f"missing: {'; '.join(missing)}. A network is needed until the repository is traced"

    @property
    def version(self) -> str:
        """Lean's version as the repository asks for; that of LeanDojo until a theorem was started."""
        return self._lean_version or f"by LeanDojo {_lean_dojo().__version__}"

    def _start(self, theorem: Theorem) -> TacticState | LeanError:
        """The first state of a theorem.

        Raises:
            BackendFault: the process broke.
        """
        opened = self._enter(theorem)
        if isinstance(opened, LeanError):
            return opened
        self._count += 1
        self._open[self._count] = opened
        while len(self._open) > self.max_open:
            _leave(self._open.popitem(last=False)[1].dojo)
        return _state(opened.first, self._count)

    def _run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """Run one tactic on a state of this backend; a finished proof has been run again from the statement.

        Raises:
            BackendFault: the process broke, or the state belongs to one that did or was closed.
        """
        number, identity = state.key
        if number not in self._open:
            raise BackendFault("LeanDojo: the state is stale, its process was closed; start the theorem again")
        self._open.move_to_end(number)
        opened = self._open[number]
        before = _lean_dojo().TacticState(state.text, identity)
        script = (*opened.scripts[identity], tactic)
        result = self._guarded(lambda: opened.dojo.run_tac(before, tactic), number)
        if isinstance(result, _lean_dojo().TacticState):
            opened.scripts[result.id] = script
        answer = _answer(result, number)
        if isinstance(answer, ProofFinished):
            checked = self.check(opened.theorem, script)
            return ProofFinished(checked.axioms) if checked.verified else LeanError(checked.message, "unsound")
        return answer

    def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """Run a whole proof in a process of its own, whose kernel checks the finished term.

        LeanDojo does not report axioms. Since the kernel is not asked about auxiliary lemmas, a script that could set
        options, define or declare anything is refused.

        Raises:
            BackendFault: the process broke.
        """
        refused = refusal(script)
        if refused is not None:
            return CheckResult(False, refused)
        opened = self._enter(theorem)
        if isinstance(opened, LeanError):
            return CheckResult(False, opened.message)
        try:
            result: Any = opened.first
            for position, tactic in enumerate(script, start=1):
                if not isinstance(result, _lean_dojo().TacticState):
                    return CheckResult(False, f"nothing is left for tactic {position}, `{tactic}`")
                answer = _answer(result := self._guarded(_runner(opened.dojo, result, tactic)), 0)
                if isinstance(answer, LeanError):
                    return CheckResult(False, f"tactic {position}, `{tactic}`: {answer.message}")
            if isinstance(result, _lean_dojo().ProofFinished):
                return CheckResult(True)
            return CheckResult(False, f"unsolved goals\n{result.pp}")
        finally:
            _leave(opened.dojo)

    def resident_bytes(self) -> int:
        """Memory that the open processes hold."""
        return sum(_resident(opened.dojo) for opened in list(self._open.values()))

    def close(self) -> None:
        """End all processes."""
        while self._open:
            _leave(self._open.popitem()[1].dojo)

    def _enter(self, theorem: Theorem) -> _Open | LeanError:
        """A process for a theorem."""
        if theorem.location is None:
            return LeanError(
                f"theorem {theorem.name!r} has no location in a traced repository; statements that stand alone need "
                "another backend, such as lightning_gfn.environments.embedded.EmbeddedLean",
                "statement",
            )
        lean_dojo = _lean_dojo()
        try:
            with _ENTERING:
                traced = _traced(theorem.location)
                dojo = lean_dojo.Dojo(traced, self.timeout, list(self.additional_imports), self.build_deps)
                _, first = dojo.__enter__()
        except lean_dojo.DojoInitError as error:
            return LeanError(f"LeanDojo cannot start {theorem.name!r}: {error}", "statement")
        except AssertionError as error:
            return LeanError(
                f"LeanDojo cannot start {theorem.name!r}: {error or 'it has no tactic state'}", "statement"
            )
        except lean_dojo.DojoTacticTimeoutError as error:
            raise BackendTimeout(f"LeanDojo: {theorem.name!r} did not start within {self.timeout} s") from error
        except lean_dojo.DojoCrashError as error:
            raise BackendFault(f"LeanDojo: {error}") from error
        self._lean_version = str(getattr(traced.repo, "lean_version", ""))
        return _Open(theorem, dojo, first)

    def _guarded(self, action: Callable[[], Any], number: int | None = None) -> Any:
        """Do it; what breaks the process closes it and is raised as a fault."""
        lean_dojo = _lean_dojo()
        try:
            return action()
        except (lean_dojo.DojoTacticTimeoutError, lean_dojo.DojoCrashError, OSError, ValueError) as error:
            if number is not None and number in self._open:
                _leave(self._open.pop(number).dojo)
            if isinstance(error, lean_dojo.DojoTacticTimeoutError):
                raise BackendTimeout(f"LeanDojo: no answer within {self.timeout} s; the process was closed") from error
            raise BackendFault(f"LeanDojo: {error}") from error


class _Open:
    """A process, its first state, and the script that led to each of its states."""

    def __init__(self, theorem: Theorem, dojo: Any, first: Any) -> None:
        self.theorem, self.dojo, self.first = theorem, dojo, first
        self.scripts: dict[int, tuple[str, ...]] = {first.id: ()}


def make_cache_folder() -> Path:
    """Make LeanDojo's cache folder, which its import makes in a way that fails in processes that begin together.

    Returns:
        the folder.
    """
    folder = Path(os.environ.get("CACHE_DIR", Path.home() / ".cache" / "lean_dojo")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lean_dojo() -> Any:
    make_cache_folder()
    try:
        import lean_dojo
    except ImportError as error:
        raise BackendUnavailable(
            f"lean_dojo cannot be imported ({error}); install git and `pip install lean-dojo`"
        ) from error
    return lean_dojo


def _traced(location: Location) -> Any:
    lean_dojo = _lean_dojo()
    repository = lean_dojo.LeanGitRepo(location.url, location.commit)
    return lean_dojo.Theorem(repository, Path(location.file_path), location.full_name)


def _runner(dojo: Any, state: Any, tactic: str) -> Callable[[], Any]:
    return lambda: dojo.run_tac(state, tactic)


def _state(state: Any, number: int) -> TacticState:
    return TacticState(tuple(state.pp.split("\n\n")), (number, state.id))


def _answer(result: Any, number: int) -> StepResult:
    """LeanDojo's result as ours."""
    lean_dojo = _lean_dojo()
    if isinstance(result, lean_dojo.TacticState):
        return _state(result, number) if result.pp != NO_GOALS else ProofFinished()
    if isinstance(result, lean_dojo.ProofFinished):
        return ProofFinished()
    if isinstance(result, lean_dojo.ProofGivenUp):
        return LeanError("the proof contains `sorry`", "forbidden")
    return tactic_error(result.error)


def _leave(dojo: Any) -> None:
    try:
        dojo.__exit__(None, None, None)
    except Exception:  # it may be half dead; what is left of it ends with this process
        return


def _resident(dojo: Any) -> int:
    import psutil

    try:
        process = psutil.Process(dojo.proc.pid)
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    except (psutil.Error, AttributeError):
        return 0
