"""The memory of a pool keeps results, deadly tactics and totals; several threads may use it."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from lightning_gfn.lean_types import CheckResult, LeanError, StepResult

Answer = StepResult | CheckResult
Value = TypeVar("Value")

COUNTERS = (
    "steps", "cached", "errors", "timeouts", "restarts", "seconds", "forbidden", "faults", "unsound", "recycled",
    "replayed", "stolen",
)  # fmt: skip
DEADLY_STRIKES = 2
"""So many processes may a request kill; then it is not sent again."""
REMEMBERED_STRIKES = 10_000


class LeastRecentlyUsed(Generic[Value]):
    """A mapping of bounded size that forgets what was not used for longest.

    Args:
        size: entries at most; 0: it remembers nothing.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._entries: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Value | None:
        """The value of a key; None if there is none."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value) -> None:
        """Remember a value."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self.size:
                self._entries.popitem(last=False)


class ResultCache(LeastRecentlyUsed[Answer]):
    """Answers by request. Faults are never kept, answers that came too late only if asked for.

    Args:
        size: answers at most; 0: none.
        timeouts: keep those of kind ``timeout``.
    """

    def __init__(self, size: int, timeouts: bool = False) -> None:
        super().__init__(size)
        self.timeouts = timeouts

    def keep(self, key: Hashable, answer: Answer) -> None:
        """Remember an answer that would be the same another time."""
        if isinstance(answer, LeanError) and (
            answer.kind == "fault" or (answer.kind == "timeout" and not self.timeouts)
        ):
            return
        self.put(key, answer)


class FaultCounts:
    """Strikes count the requests that killed a process, and keep what became of them."""

    def __init__(self) -> None:
        self._counts: LeastRecentlyUsed[int] = LeastRecentlyUsed(REMEMBERED_STRIKES)
        self._failures: LeastRecentlyUsed[LeanError] = LeastRecentlyUsed(REMEMBERED_STRIKES)
        self._lock = threading.Lock()

    def add(self, key: Hashable, failure: LeanError) -> bool:
        """Count one more; true if the request is deadly now."""
        with self._lock:
            count = (self._counts.get(key) or 0) + 1
            self._counts.put(key, count)
        if count >= DEADLY_STRIKES:
            self._failures.put(key, failure)
        return count >= DEADLY_STRIKES

    def verdict(self, key: Hashable) -> LeanError | None:
        """The answer to a deadly request; None for all others."""
        return self._failures.get(key)


class Counters:
    """Totals by name."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, **amounts: float) -> None:
        """Add to some totals."""
        with self._lock:
            for name, amount in amounts.items():
                self._counts[name] += amount  # type: ignore[assignment]  # seconds are no integers

    def answer(self, answer: Answer, cached: bool) -> None:
        """Count the answer to one tactic."""
        with self._lock:
            self._counts["cached"] += cached
            if isinstance(answer, LeanError):
                self._counts["errors"] += 1
                name = {"timeout": "timeouts", "forbidden": "forbidden", "fault": "faults", "unsound": "unsound"}
                if answer.kind in name:
                    self._counts[name[answer.kind]] += 1

    def totals(self) -> Mapping[str, float]:
        """All totals, those that are zero as well."""
        with self._lock:
            return {name: float(self._counts[name]) for name in COUNTERS}
