"""The Ray cluster that Lean workers and rollout actors share: joined, or started on this machine."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any


class RayUnavailable(RuntimeError):
    """Ray cannot be imported, or there is no cluster to join."""


def load_ray() -> Any:
    """The package ``ray``, imported when it is first needed.

    Raises:
        RayUnavailable: it cannot be imported.
    """
    try:
        import ray
        import ray.cloudpickle
        import ray.exceptions
    except ImportError as error:
        raise RayUnavailable(f"ray cannot be imported ({error}); `pip install ray`") from error
    return ray


def connect(ray: Any, address: str | None = None) -> None:
    """Join a cluster or start Ray on this machine, once in a process; signals stay with whom they were.

    Args:
        ray: the package.
        address: of the cluster; None takes ``RAY_ADDRESS``, and starts Ray here where that is not set.

    Raises:
        RayUnavailable: nobody answers there, or Ray does not start.
    """
    if ray.is_initialized():
        return
    in_main = threading.current_thread() is threading.main_thread()
    former = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        asked = "RAY_ADDRESS" if address is None else f"the address {address!r}"
        raise RayUnavailable(f"Ray cannot be started ({error}); check {asked}") from error
    finally:
        if former is not None:  # Ray takes SIGTERM for itself, and a run would end without saving
            signal.signal(signal.SIGTERM, former)


def is_own(address: str | None) -> bool:
    """True if nothing names a cluster, so that each process has a Ray of its own."""
    return address is None and "RAY_ADDRESS" not in os.environ


def last_line(error: BaseException) -> str:
    """What an actor said, without Ray's account of where."""
    cause = getattr(error, "cause", None)
    return str(cause) if cause is not None else (str(error).strip().splitlines() or [type(error).__name__])[-1]
