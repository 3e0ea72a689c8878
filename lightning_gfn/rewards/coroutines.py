"""Coroutines run beside the caller, in one event loop of a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any


@cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """The event loop of a process; after a fork the child starts its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="reward-functions", daemon=True).start()
    return loop


def start(coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
    """Begin a coroutine; several that were begun wait for their answers together.

    It also works where the caller runs in an event loop, as in a notebook.
    """
    return asyncio.run_coroutine_threadsafe(coroutine, _loop(os.getpid()))
