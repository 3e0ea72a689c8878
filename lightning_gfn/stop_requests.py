"""Signals that ask a process to stop: noted at once, obeyed where nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1")
AT_ONCE = ("SIGINT", "SIGQUIT")
"""From a keyboard: the second one ends the process without further ado."""
GRACE_SECONDS = 60.0
KEYBOARD_GRACE_SECONDS = 600.0
"""Who is at the keyboard can see that a long step goes on, and end it."""
SILENT_SECONDS = 2.0
"""Work that stops sooner needs no line that it will."""
CLEANUP_SECONDS = 30.0


class Interrupted(SystemExit):
    """A process that ends because a signal asked it to; its exit status is 128 and the signal's number.

    Args:
        signum: of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


def is_interruption(status: int) -> bool:
    """True if an exit status says that a signal asked the process to stop (or ended it: minus its number)."""
    return any(status in (128 + number, -number) for number in numbers())


def numbers() -> list[int]:
    """The signals that ask to stop, as this system numbers them."""
    return [int(getattr(signal, name)) for name in NAMES if hasattr(signal, name)]


def name_of(signum: int) -> str:
    """``SIGINT (Ctrl-C)``, ``SIGTERM``, …."""
    name = signal.Signals(signum).name
    return f"{name} (Ctrl-C)" if name == "SIGINT" else name


class StopRequests:
    """Takes over the signals while it is entered.

    A request interrupts the main thread by ``Interrupted`` at once, unless ``at_boundary`` is set: then the work under
    way is given ``grace_seconds`` to ask for ``signum`` where it can stop, and is interrupted afterwards. A main thread
    that cannot even be interrupted (a call that hangs) ends with the process. Signals that were ignored stay so.

    Args:
        grace_seconds: what work under way is given; more, if someone at the keyboard asks.
    """

    active: StopRequests | None = None

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self.grace_seconds = grace_seconds
        self.signum: int | None = None
        self.at_boundary = False
        self.ended_at_once = False
        self.since = 0.0
        self._raise_now = self._raised = False
        self._keyboard = 0
        self._lock = threading.Lock()
        self._former: dict[int, Any] = {}
        self._former_fd = -1
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> StopRequests:
        """Take the signals over, where that is possible: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._outer, StopRequests.active = StopRequests.active, self
            self._former = {number: signal.getsignal(number) for number in numbers()}
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)
            self._former_fd = signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(self._ends[0],), name="signals", daemon=True).start()
            self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Give the signals back."""
        if self._ends is None:
            return
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        StopRequests.active = self._outer
        ends, self._ends = self._ends, None
        with suppress(OSError):
            ends[1].send(b"\0")
        ends[1].close()

    def install(self, *, leave: tuple[int, ...] = ()) -> None:
        """Set the handlers, again if something replaced them.

        Args:
            leave: signals that someone else handles.
        """
        if self._ends is None:
            return
        for number, former in self._former.items():
            if former != signal.SIG_IGN and number not in leave:
                signal.signal(number, self._handle)

    def note(self, signum: int) -> None:
        """Note a request from any thread; only the first one counts."""
        with self._lock:
            if self.signum is not None:
                return
            self.signum, self.since = signum, time.monotonic()
        threading.Thread(target=self._see_through, name="stop", daemon=True).start()

    def obey(self) -> None:
        """Say that the work ends by itself: nothing interrupts it any more, unless its end hangs."""
        self.at_boundary = False
        self._raised = True

    def check(self) -> None:
        """Stop here if a request is noted."""
        if self.signum is not None and not self._raised:
            self._raised = True
            raise Interrupted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signal.Signals(signum).name in AT_ONCE:
            self._keyboard += 1
            if self._keyboard > 1:
                self._end_at_once(signum)
        self.note(signum)
        if (self._raise_now or not self.at_boundary) and not self._raised:
            self.check()

    def _watch(self, end: socket.socket) -> None:
        """Hear of signals also while the main thread is in a call that does not return."""
        end.setblocking(True)
        keyboard = 0
        with suppress(OSError):
            while data := end.recv(1):
                if data == b"\0":
                    break
                if data[0] not in self._former:
                    continue
                self.note(data[0])
                if signal.Signals(data[0]).name in AT_ONCE:
                    keyboard += 1
                    if keyboard > 1:
                        time.sleep(1.0)  # the main thread's handler comes first where it can
                        self._end_at_once(data[0])
        end.close()

    def _see_through(self) -> None:
        """Interrupt work that goes on beyond its grace, and end a process that hangs."""
        deadline, said = self.since + self._grace(), os.environ.get("LOCAL_RANK", "0") != "0"
        while self.at_boundary and time.monotonic() < deadline and not self._raised:
            if not said and time.monotonic() > self.since + SILENT_SECONDS:
                said = True
                tell(self._what_follows())
            time.sleep(0.2)
        if self._ends is not None and not self._raised:
            self._raise_now = True
            with suppress(ProcessLookupError):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(CLEANUP_SECONDS)
        if self._ends is not None and self.signum is not None:
            tell(f"{name_of(self.signum)}: a call does not return; the process ends without it")
            os._exit(128 + self.signum)

    def _from_keyboard(self) -> bool:
        return self.signum is not None and signal.Signals(self.signum).name in AT_ONCE

    def _grace(self) -> float:
        return max(self.grace_seconds, KEYBOARD_GRACE_SECONDS) if self._from_keyboard() else self.grace_seconds

    def _what_follows(self) -> str:
        assert self.signum is not None
        again = "; again: at once, without saving" if self._from_keyboard() else ""
        step = f"stops and saves after the step under way, which has {self._grace():.0f} s"
        return f"{name_of(self.signum)}: {step}{again}"

    def _end_at_once(self, signum: int) -> None:
        self.ended_at_once = True
        tell(f"{name_of(signum)} again: ended at once, what was under way is not saved")
        os._exit(128 + signum)


def tell(text: str) -> None:
    """Print one line to the standard error, if anyone is still there."""
    with suppress(OSError, ValueError):
        print(f"[lightning-gfn] {text}", file=sys.stderr, flush=True)


def leave_to_parent() -> None:
    """In a forked child: its parent's requests are none of its own."""
    if (requests := StopRequests.active) is None:
        return
    StopRequests.active = None
    signal.set_wakeup_fd(-1)
    for number, handler in requests._former.items():
        signal.signal(number, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_to_parent)
