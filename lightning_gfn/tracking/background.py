"""Deliver things in the background, in order, and never let the delivery hold up or fail the program."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class DeliveryQueue(Generic[Item]):
    """A bounded queue and one daemon thread that delivers batches of what is in it.

    A batch whose delivery fails is tried again with growing pauses, unless ``is_permanent`` says that it never can be
    delivered; then its items are tried one by one, and only those refused are dropped. The oldest items are dropped
    when the queue is full.

    Args:
        deliver: called in the thread with a batch of items, in order.
        is_permanent: True if an exception means that trying again is useless.
        on_failure: called in the thread with the first exception of each kind (permanent or not).
        capacity: items kept while delivery fails.
        batch_size: items delivered at once, at most.
        linger_seconds: how long to wait for further items before a delivery.
        first_pause_seconds: pause after the first failure; it doubles up to a minute.
    """

    def __init__(
        self,
        deliver: Callable[[list[Item]], None],
        *,
        is_permanent: Callable[[Exception], bool],
        on_failure: Callable[[Exception, bool], None],
        capacity: int = 20_000,
        batch_size: int = 500,
        linger_seconds: float = 0.5,
        first_pause_seconds: float = 1.0,
    ) -> None:
        self._deliver = deliver
        self._is_permanent = is_permanent
        self._on_failure = on_failure
        self._capacity = capacity
        self._batch_size = batch_size
        self._linger = linger_seconds
        self._first_pause = first_pause_seconds
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._in_flight = 0
        self._hurry = False
        self._thread: threading.Thread | None = None
        self._reported: set[bool] = set()
        self._alone = 0
        self.num_dropped = 0
        self.num_failures = 0
        self.is_failing = False

    def put(self, item: Item) -> None:
        """Add an item; returns at once."""
        with self._changed:
            self._items.append(item)
            while len(self._items) > self._capacity:
                self._items.popleft()
                self.num_dropped += 1
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def pending(self) -> int:
        """Items not delivered yet."""
        with self._changed:
            return len(self._items) + self._in_flight

    def flush(self, deadline_seconds: float) -> bool:
        """Wait until everything is delivered; False if the deadline came first, or only failures for a tenth of it."""
        start = time.monotonic()

        def done() -> bool:
            return not self._items and not self._in_flight

        def over() -> bool:
            return done() or self.is_failing and time.monotonic() - start > deadline_seconds / 10

        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(over, deadline_seconds)
            self._hurry = False
            return done()

    def _work(self) -> None:
        pause = 0.0
        while True:
            batch = self._take(pause)
            error = self._attempt(batch)
            with self._changed:
                pause = self._settle(batch, error, pause)
                self._in_flight = 0
                self._changed.notify_all()

    def _settle(self, batch: list[Item], error: Exception | None, pause: float) -> float:
        """Put back what failed and may succeed later; returns the pause before the next attempt."""
        self._alone = max(0, self._alone - len(batch))
        if error is None:
            self.is_failing = False
            return 0.0
        permanent = self._is_permanent(error)
        self.is_failing = not permanent
        if permanent and len(batch) == 1:
            self.num_dropped += 1
        else:
            self._items.extendleft(reversed(batch))
            self._alone = len(batch) if permanent else self._alone
        if (not permanent or len(batch) == 1) and permanent not in self._reported:
            self._reported.add(permanent)
            self._on_failure(error, permanent)
        return 0.0 if permanent else min(60.0, 2 * pause if pause else self._first_pause)

    def _take(self, pause: float) -> list[Item]:
        """The next batch, after the pause; a flush in progress cuts waiting short."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items))
            if pause:
                self._changed.wait_for(lambda: self._hurry, pause)
                self._changed.wait_for(lambda: False, 0.1)
            elif not self._alone:
                self._changed.wait_for(lambda: self._hurry or len(self._items) >= self._batch_size, self._linger)
            count = min(len(self._items), 1 if self._alone else self._batch_size)
            batch = [self._items.popleft() for _ in range(count)]
            self._in_flight = count
            return batch

    def _attempt(self, batch: list[Item]) -> Exception | None:
        try:
            self._deliver(batch)
        except Exception as error:  # a tracking server must never end a run
            self.num_failures += 1
            return error
        return None
