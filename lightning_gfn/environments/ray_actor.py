"""A backend in a Ray actor, on this machine or another."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any, cast

from lightning_gfn.cluster import ray_cluster
from lightning_gfn.cluster.ray_cluster import RayUnavailable, last_line, load_ray
from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout, BackendUnavailable, LeanBackend
from lightning_gfn.lean_types import CheckResult, LeanError, StepResult, TacticState, Theorem


class RayLean(LeanBackend):
    """Another backend, which an actor holds; the actor starts with the first call and after every fault.

    Args:
        backend: copied to the actor.
        timeout: seconds after which an actor that has not answered is ended.
        num_cpus: that the actor reserves.
    """

    def __init__(self, backend: LeanBackend, timeout: float, num_cpus: float = 1.0) -> None:
        self.backend, self.timeout, self.num_cpus = backend, timeout, num_cpus
        self.name = backend.name
        # A long text is refused here, before it is sent.
        self.max_chars, self.max_context_chars = backend.max_chars, backend.max_context_chars
        self._actor: Any = None
        self._generations = itertools.count(1)
        self._generation = 0

    @property
    def version(self) -> str:
        """Lean's version as the actor reports it."""
        return cast(str, self._call("version"))

    def _start(self, theorem: Theorem) -> TacticState | LeanError:
        """The first state of a theorem.

        Raises:
            BackendFault: the process or the actor broke.
        """
        return cast("TacticState | LeanError", self._ours(self._call("start", theorem)))

    def _run_tac(self, state: TacticState, tactic: str) -> StepResult:
        """Run one tactic on a state of this backend.

        Raises:
            BackendFault: the process or the actor broke, or the state belongs to one that did.
        """
        if self._actor is None or state.key[:1] != (self._generation,):
            raise BackendFault("Ray: the state is stale, its actor has ended; start the theorem again")
        return self._ours(self._call("run_tac", TacticState(state.goals, state.key[1:]), tactic))

    def _check(self, theorem: Theorem, script: Sequence[str]) -> CheckResult:
        """Check a whole proof afresh, from its statement.

        Raises:
            BackendFault: the process or the actor broke.
        """
        return cast(CheckResult, self._call("check", theorem, tuple(script)))

    def release(self, states: Sequence[TacticState]) -> None:
        """These states will not be used again."""
        stale = [TacticState(one.goals, one.key[1:]) for one in states if one.key[:1] == (self._generation,)]
        if self._actor is not None and stale:
            self._call("release", stale)

    def resident_bytes(self) -> int:
        """Memory that the process behind the actor holds."""
        return 0 if self._actor is None else cast(int, self._call("resident_bytes"))

    def close(self) -> None:
        """End the actor and its process."""
        actor, self._actor = self._actor, None
        if actor is not None:
            ray = _ray()
            # The backend ends its own process; an actor that is at work or dead cannot. It is killed either way.
            with contextlib.suppress(Exception):
                ray.get(actor.call.remote("close", ()), timeout=1.0)
            ray.kill(actor)

    def _ours(self, result: Any) -> StepResult:
        if isinstance(result, TacticState):
            return TacticState(result.goals, (self._generation, *result.key))
        return cast(StepResult, result)

    def _call(self, method: str, *arguments: Any) -> Any:
        ray = _ray()
        actor = self._actor if self._actor is not None else self._launch(ray)
        try:
            return ray.get(actor.call.remote(method, arguments), timeout=self.timeout)
        except ray.exceptions.GetTimeoutError as error:
            self.close()
            raise BackendTimeout(
                f"Ray: no answer within {self.timeout:g} s; each worker needs {self.num_cpus:g} free CPU of the cluster"
            ) from error
        except BackendTimeout as error:
            self.close()
            raise BackendTimeout(f"Ray: {last_line(error)}") from error
        except BackendUnavailable as error:
            self.close()
            raise BackendUnavailable(f"on a machine of the Ray cluster: {last_line(error)}") from error
        except (BackendFault, ray.exceptions.RayError) as error:
            self.close()
            raise BackendFault(f"Ray: {last_line(error)}") from error

    def _launch(self, ray: Any) -> Any:
        host = ray.remote(num_cpus=self.num_cpus, max_restarts=0)(_Host)
        self._actor = host.remote(self.backend)
        self._generation = next(self._generations)
        return self._actor


def connect() -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start Ray on this machine.

    Raises:
        BackendUnavailable: Ray is not installed, or there is no cluster.
    """
    try:
        ray_cluster.connect(_ray())
    except RayUnavailable as error:
        raise BackendUnavailable(f"{error}, or set environment.ray: false") from error


class _Host:
    """What runs in the actor."""

    def __init__(self, backend: LeanBackend) -> None:
        self.backend = backend

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        value = getattr(self.backend, method)
        return value(*arguments) if callable(value) else value


def _ray() -> Any:
    try:
        return load_ray()
    except RayUnavailable as error:
        raise BackendUnavailable(f"{error}, or set environment.ray: false") from error
