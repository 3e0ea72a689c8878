"""Lean projects with Mathlib as a backend: the Lean REPL through lean-interact."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from lightning_gfn.environments.configuration_copies import ConfigurationCopies, missing_tools
from lightning_gfn.environments.whole_proofs import judge_axioms, refusal, source, tactic_error
from lightning_gfn.lean_interfaces import (
    MAX_CHARS,
    MAX_CONTEXT_CHARS,
    BackendFault,
    BackendTimeout,
    BackendUnavailable,
    LeanBackend,
)
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState, Theorem


class LeanInteractBackend(ConfigurationCopies, LeanBackend):
    """The Lean REPL in a project of this machine, or with Lean alone.

    Needs the extra ``lean`` (``pip install 'lightning-gfn[lean]'``) and ``elan``; the REPL is built at its first use.
    Tactics are tried on proof states of the REPL, which has accepted wrong proofs in this mode; a proof therefore
    counts only when the whole theorem compiles without ``sorry`` and ``#print axioms`` names none but Lean's three.

    Args:
        project: directory of a built Lean project, such as one with Mathlib; None for Lean alone.
        lean_version: such as ``v4.25.0``, if there is no project; None for the newest that the REPL supports.
        timeout: seconds for one tactic; then the process is killed.
        check_timeout: seconds for a whole proof, and for imports and context.
        memory_limit_mb: of the process; None for no limit.
        max_chars: longest statement, tactic or whole proof; a longer one is refused before Lean sees it.
        max_context_chars: longest context.
    """

    name = "lean-interact"

    def __init__(
        self,
        project: str | None = None,
        lean_version: str | None = None,
        timeout: float = 60.0,
        check_timeout: float = 300.0,
        memory_limit_mb: int | None = None,
        max_chars: int = MAX_CHARS,
        max_context_chars: int = MAX_CONTEXT_CHARS,
    ) -> None:
        if timeout <= 0 or check_timeout <= 0:
            raise ValueError(
                f"LeanInteractBackend: timeout={timeout} and check_timeout={check_timeout} must be positive"
            )
        if project is not None and lean_version is not None:
            raise ValueError("LeanInteractBackend: a project names its own Lean; leave out lean_version")
        self.project, self.lean_version, self.memory_limit_mb = project, lean_version, memory_limit_mb
        self.timeout, self.check_timeout = timeout, check_timeout
        self._limit_lengths(max_chars, max_context_chars)
        self._forget()

    def _forget(self) -> None:
        self._server: Any = None
        self._generation = secrets.randbits(48)
        self._environments: dict[tuple[tuple[str, ...], tuple[str, ...]], int | LeanError] = {}
        self._scripts: dict[int, tuple[Theorem, tuple[str, ...]]] = {}

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot work here; None if it can, given a network for the first build of the REPL."""
        missing = missing_tools("lean_interact", "the package lean-interact (pip install 'lightning-gfn[lean]')")
        return f"missing: {'; '.join(missing)}" if missing else None

    @property
    def version(self) -> str:
        """Lean's version."""
        return str(self._running().lean_version)

    def _start(self, theorem: Theorem) -> TacticState | LeanError:
        """The first state of a theorem.

        Raises:
            BackendFault: the process broke.
        """
        if not theorem.statement:
            return LeanError(
                f"theorem {theorem.name!r} has no statement; LeanDojoBackend starts traced ones", "statement"
            )
        environment = self._environment(theorem)
        if isinstance(environment, LeanError):
            return environment
        response = self._command(source(_fresh_name(), theorem.statement, ["sorry"]), environment)
        message = _errors(response)
        if message:
            return LeanError(message, "statement")
        if len(response.sorries) != 1 or response.sorries[0].proof_state is None:
            return LeanError(f"the statement of {theorem.name!r} gives no goal to prove", "statement")
        hole = response.sorries[0]
        return self._keep(hole.proof_state, (hole.goal,), theorem, ())

    def _run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """Run one tactic on a state of this backend; a finished proof has been compiled from the statement.

        Raises:
            BackendFault: the process broke, or the state belongs to one that did.
        """
        if len(state.key) != 2 or state.key[0] != self._generation or state.key[1] not in self._scripts:
            raise BackendFault("lean-interact: the state is stale, its process has ended; start the theorem again")
        if not tactic.strip():
            return LeanError("no tactic in the text")
        theorem, before = self._scripts[state.key[1]]
        script = (*before, tactic)
        request = _package().interface.ProofStep(proof_state=state.key[1], tactic=tactic)
        response = self._ask(request, self.timeout)
        message = _errors(response)
        if message:
            return tactic_error(message)
        if response.sorries or "sorry" in response.proof_status:
            return LeanError("the proof contains `sorry`", "forbidden")
        if response.goals:
            return self._keep(response.proof_state, tuple(response.goals), theorem, script)
        if response.proof_status != "Completed":
            return LeanError(f"no goals are left, but the proof is not complete: {response.proof_status}", "unsound")
        checked = self.check(theorem, script)
        return ProofFinished(checked.axioms) if checked.verified else LeanError(checked.message, "unsound")

    def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """Compile the whole theorem and ask for its axioms.

        Raises:
            BackendFault: the process broke.
        """
        refused = refusal(script)
        if refused is not None:
            return CheckResult(False, refused)
        environment = self._environment(theorem)
        if isinstance(environment, LeanError):
            return CheckResult(False, environment.message)
        name = _fresh_name()
        response = self._command(source(name, theorem.statement, script), environment)
        if _errors(response) or not response.lean_code_is_valid(allow_sorry=False):
            return CheckResult(False, _errors(response) or "the proof contains `sorry`")
        report = self._command(f"#print axioms {name}", response.env)
        if _errors(report):
            return CheckResult(False, _errors(report))
        return judge_axioms("\n".join(message.data for message in report.messages))

    def release(self, states: Sequence[TacticState]) -> None:
        """These states will not be used again; the REPL itself forgets none before its process ends."""
        for state in states:
            if state.key[:1] == (self._generation,):
                self._scripts.pop(state.key[1], None)

    def resident_bytes(self) -> int:
        """Memory that the process holds."""
        return 0 if self._server is None else int(self._server.get_memory_usage() * 2**20)

    def close(self) -> None:
        """End the process; the next call starts a new one."""
        server = self._server
        self._forget()
        if server is not None:
            server.kill()

    def _keep(self, number: int, goals: tuple[str, ...], theorem: Theorem, script: tuple[str, ...]) -> TacticState:
        self._scripts[number] = (theorem, script)
        return TacticState(goals, (self._generation, number))

    def _running(self) -> Any:
        if self._server is None:
            package = _package()
            project = None if self.project is None else package.LocalProject(directory=self.project)
            config = package.LeanREPLConfig(
                lean_version=self.lean_version, project=project, memory_hard_limit_mb=self.memory_limit_mb
            )
            self._server = package.LeanServer(config)
        return self._server

    def _ask(self, request: Any, seconds: float) -> Any:
        try:
            return self._running().run(request, timeout=seconds)
        except TimeoutError as error:
            self.close()
            raise BackendTimeout(f"lean-interact: no answer within {seconds:g} s; the process was killed") from error
        except (OSError, ValueError) as error:  # its pipes, its process, what is no JSON
            self.close()
            raise BackendFault(f"lean-interact: {error}") from error

    def _command(self, text: str, environment: int | None) -> Any:
        return self._ask(_package().Command(cmd=text, env=environment), self.check_timeout)

    def _environment(self, theorem: Theorem) -> int | LeanError:
        """Number of the elaborated imports and context, or why there is none."""
        key = (theorem.imports, theorem.context)
        if key not in self._environments:
            lines = [*(f"import {module}" for module in theorem.imports), *theorem.context]
            response = self._command("\n".join(lines), None)
            message = _errors(response)
            self._environments[key] = LeanError(message, "statement") if message else int(response.env)
        return self._environments[key]


def _package() -> Any:
    try:
        import lean_interact
    except ImportError as error:
        raise BackendUnavailable(
            f"lean_interact cannot be imported ({error}); pip install 'lightning-gfn[lean]'"
        ) from error
    return lean_interact


def _errors(response: Any) -> str:
    """What the REPL refused; empty if nothing."""
    if isinstance(response, _package().interface.LeanError):
        return str(response.message) or "the REPL refused the request"
    return "\n".join(message.data for message in response.get_errors())


def _fresh_name() -> str:
    """A name that no proof can know."""
    return f"lightning_gfn_{secrets.token_hex(8)}"
