"""The embedded Lean as a backend: real Lean 4.28 that needs neither elan nor a network once it is installed."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.environments.configuration_copies import ConfigurationCopies
from lightning_gfn.environments.embedded_lean.install import find
from lightning_gfn.environments.embedded_lean.lean_process import LeanProcess, lean_command
from lightning_gfn.environments.rules import without_comments
from lightning_gfn.lean_interfaces import MAX_CHARS, MAX_CONTEXT_CHARS, BackendFault, BackendUnavailable, LeanBackend
from lightning_gfn.lean_types import CheckResult, LeanError, ProofFinished, StepResult, TacticState, Theorem

ALLOWED_AXIOMS = frozenset({"propext", "Classical.choice", "Quot.sound"})
_IMPORTS = re.compile(r"\s*(?:import\s+\S+\s+)*")


def split_imports(source: str) -> tuple[tuple[str, ...], str]:
    """The modules a file imports (``Init`` at least), and its text with the header blanked out."""
    header = _IMPORTS.match(without_comments(source) + "\n")
    assert header is not None
    names = re.findall(r"import\s+(\S+)", header.group())
    blank = re.sub(r"[^\n]", " ", source[: header.end()])
    return tuple(names) or ("Init",), blank + source[header.end() :]


class EmbeddedLean(ConfigurationCopies, LeanBackend):
    """Lean 4.28 compiled to WebAssembly, in one Node process: modules of Init, Std and Lean, no Mathlib.

    The process starts with the first call (about 10 s, 1.6 GB). A proof counts when the kernel has checked it again,
    with every lemma that tactics added, against the statement; text that would make Lean run code while it elaborates,
    set options or open namespaces is refused.

    Args:
        heartbeats: limit of one tactic, in Lean's thousands (``maxHeartbeats``).
        timeout: seconds for one tactic, or for a statement; then the process is killed.
        check_timeout: seconds for a whole proof, or for a context and its imports.
        start_timeout: seconds for the process to be ready, where a call has to start one.
        max_chars: longest statement, tactic or whole proof; a longer one is refused before Lean sees it.
        max_context_chars: longest context.
        max_resident_gib: memory above which the process is killed.
        cached_contexts: contexts (imports and earlier commands) that are kept elaborated.
        folder: of the installation; ``lightning-gfn lean install`` chose it if None.

    Raises:
        ValueError: a limit is not positive.
        BackendUnavailable: at the first call, if it is not installed.
    """

    name = "embedded"

    def __init__(
        self,
        heartbeats: int = 20_000,
        timeout: float = 30.0,
        check_timeout: float = 120.0,
        start_timeout: float = 300.0,
        max_chars: int = MAX_CHARS,
        max_context_chars: int = MAX_CONTEXT_CHARS,
        max_resident_gib: float = 4.0,
        cached_contexts: int = 64,
        folder: str | None = None,
    ) -> None:
        limits = {
            "heartbeats": heartbeats, "timeout": timeout, "check_timeout": check_timeout,
            "start_timeout": start_timeout, "max_resident_gib": max_resident_gib, "cached_contexts": cached_contexts,
        }  # fmt: skip
        for argument, value in limits.items():
            if value <= 0:
                raise ValueError(f"EmbeddedLean: {argument}={value} must be positive")
        self.heartbeats, self.timeout, self.check_timeout = heartbeats, timeout, check_timeout
        self.start_timeout, self.max_resident_gib, self.cached_contexts = (
            start_timeout,
            max_resident_gib,
            cached_contexts,
        )
        self._limit_lengths(max_chars, max_context_chars)
        self.folder = folder
        self._forget()

    def _forget(self) -> None:
        self._process: LeanProcess | None = None
        self._version = ""
        self._generation = 0
        self._imported: dict[tuple[str, ...], int] = {}
        self._contexts: OrderedDict[tuple[tuple[str, ...], tuple[str, ...]], int | LeanError] = OrderedDict()
        self._released: list[int] = []
        self._dropped: list[int] = []
        self._deadline = math.inf

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot work here; None if it can."""
        try:
            find()
        except BackendUnavailable as error:
            return str(error)
        return None

    @property
    def version(self) -> str:
        """Lean's version as it reports itself."""
        if not self._version:
            self._allow(self.timeout)
            self._version = str(self._ask({"cmd": "ping"})["version"])
        return self._version

    def _start(self, theorem: Theorem) -> TacticState | LeanError:
        """The first state of a theorem.

        Raises:
            BackendFault: the process broke.
        """
        self._allow(self.timeout, theorem)
        environment = self._environment(theorem)
        if isinstance(environment, LeanError):
            return environment
        request = {"cmd": "start", "env": environment, "statement": theorem.statement}
        result = self._result(self._ask(request))
        if isinstance(result, ProofFinished):
            raise BackendFault("embedded Lean: a statement was answered by a finished proof")
        return result

    def _run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """Run one tactic (or several, one below the other) on a state of this backend.

        Raises:
            BackendFault: the process broke, or the state belongs to one that did.
        """
        if self._process is None or len(state.key) != 2 or state.key[0] != self._generation:
            raise BackendFault("embedded Lean: the state is stale, its process has ended; start the theorem again")
        self._allow(self.timeout)
        return self._result(self._ask({"cmd": "tac", "state": state.key[1], "tac": tactic}))

    def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """Check a whole proof afresh, from its statement, by the kernel.

        Raises:
            BackendFault: the process broke.
        """
        self._allow(self.check_timeout, theorem)
        environment = self._environment(theorem)
        if isinstance(environment, LeanError):
            return CheckResult(False, environment.message)
        request = {"cmd": "check", "env": environment, "statement": theorem.statement, "script": list(script)}
        reply = self._ask(request)
        result = self._result(reply)
        if isinstance(result, ProofFinished):
            return CheckResult(True, "", result.axioms)
        assert isinstance(result, LeanError)
        return CheckResult(False, result.message, tuple(reply.get("axioms", ())))

    def read_source(self, source: str, name: str = "") -> tuple[Theorem, list[str]] | LeanError:
        """The last theorem of a file and its proof, to be checked; what stands before it is its context.

        Commands before the theorem that would run code or give words another meaning (``macro``, ``#eval``, attributes
        other than a few plain ones) are refused.

        Args:
            source: text of the file.
            name: to call the theorem by; its own if empty.

        Raises:
            BackendFault: the process broke.
        """
        if (refusal := self._too_long("file", len(source), "max_context_chars")) is not None:
            return LeanError(refusal, "statement")
        imports, body = split_imports(source)
        file = Theorem(name, "", imports=imports)
        self._allow(self.check_timeout, file)
        environment = self._environment(file)
        if isinstance(environment, LeanError):
            return environment
        reply = self._ask({"cmd": "split", "env": environment, "source": body})
        if "error" in reply:
            return LeanError(str(reply["error"]), reply.get("kind", "statement"))
        own = str(reply["name"])
        context = [str(reply["context"])] if reply["context"].strip() else []
        if "." in own:
            context.append(f"namespace {own.rpartition('.')[0]}")
        theorem = Theorem(name or own, str(reply["statement"]), tuple(context), imports)
        return theorem, [str(reply["tactics"])]

    def release(self, states: Sequence[TacticState]) -> None:
        """These states will not be used again; Lean forgets them with the next request."""
        if self._process is not None:
            self._released += [state.key[1] for state in states if state.key[:1] == (self._generation,)]

    def resident_bytes(self) -> int:
        """Memory that the process holds; 0 if there is none."""
        return 0 if self._process is None else self._process.resident

    def close(self) -> None:
        """End the process; the next call starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _allow(self, seconds: float, theorem: Theorem | None = None) -> None:
        """Set the one deadline of a call: its own time, and that of what must be made first."""
        if self._process is None:
            seconds += self.start_timeout
        if theorem is not None and (theorem.imports, theorem.context) not in self._contexts:
            seconds += self.check_timeout
        self._deadline = time.monotonic() + seconds

    def _command(self) -> list[str]:
        installed = find(None if self.folder is None else Path(self.folder))
        return lean_command(installed.node, installed.folder)

    def _launch(self) -> LeanProcess:
        self._process = LeanProcess(self._command(), self.start_timeout, self.max_resident_gib)
        self._generation = secrets.randbits(48)
        self._imported, self._contexts = {}, OrderedDict()
        self._released, self._dropped = [], []
        return self._process

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request before the deadline of the call; a process is started if there is none."""
        process = self._process if self._process is not None else self._launch()
        released, self._released = self._released, []
        dropped, self._dropped = self._dropped, []
        limits = {"heartbeats": self.heartbeats, "drop": released, "drop_env": dropped}
        try:
            return process.ask({**request, **limits}, max(0.0, self._deadline - time.monotonic()))
        except BaseException:
            self.close()
            raise

    def _result(self, reply: dict[str, Any]) -> StepResult:
        if "error" in reply:
            return LeanError(str(reply["error"]), reply.get("kind", "tactic"))
        if reply.get("done") is True:
            axioms = tuple(sorted(reply["axioms"]))
            foreign = [axiom for axiom in axioms if axiom not in ALLOWED_AXIOMS]
            if foreign:
                return LeanError(f"the proof rests on {', '.join(foreign)}, which is no axiom of Lean's", "unsound")
            return ProofFinished(axioms)
        return TacticState(tuple(reply["goals"]), (self._generation, int(reply["state"])))

    def _environment(self, theorem: Theorem) -> int | LeanError:
        """Number of the elaborated imports and context, or why there is none."""
        if self._process is None:
            self._launch()
        key = (theorem.imports, theorem.context)
        if key not in self._contexts:
            self._contexts[key] = self._elaborate(theorem)
            while len(self._contexts) > self.cached_contexts:
                _, old = self._contexts.popitem(last=False)
                if isinstance(old, int) and old not in self._imported.values():
                    self._dropped.append(old)
        self._contexts.move_to_end(key)
        return self._contexts[key]

    def _elaborate(self, theorem: Theorem) -> int | LeanError:
        if theorem.imports not in self._imported:
            reply = self._ask({"cmd": "import", "imports": list(theorem.imports)})
            if "error" in reply:
                return LeanError(str(reply["error"]), "statement")
            self._imported[theorem.imports] = int(reply["env"])
        base = self._imported[theorem.imports]
        if not theorem.context:
            return base
        reply = self._ask({"cmd": "extend", "env": base, "context": "\n".join(theorem.context)})
        return LeanError(str(reply["error"]), "statement") if "error" in reply else int(reply["env"])
