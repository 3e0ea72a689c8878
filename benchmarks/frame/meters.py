"""What a turn costs: processor seconds, seconds on the wall, or memory added at its peak."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.frame.row import MeterName, Seconds, Way

STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def by_clock(clock: Callable[[], float]) -> Callable[[Way], float]:
    """A meter that reads a clock before and after, unless the way measures itself."""

    def meter(way: Way) -> float:
        way.before()
        started = clock()
        result = way.run()
        return result.value if isinstance(result, Seconds) else clock() - started

    return meter


def kilobytes(name: str) -> int:
    """A line of ``/proc/self/status``."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{STATUS} has no line {name}")
    return int(found.group(1))


def added_bytes(way: Way) -> float:
    """Largest resident memory during the turn, less that before it."""
    way.before()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_PEAK.write_text("5")
    before = kilobytes("VmRSS")
    way.run()
    return max(1.0, 1024.0 * (kilobytes("VmHWM") - before))


def no_peak_memory() -> str | None:
    """Why peak memory cannot be read here; None if it can."""
    if not sys.platform.startswith("linux") or not CLEAR_PEAK.exists():
        return "the peak of memory is read from Linux's /proc/self/clear_refs, which is not here"
    try:
        CLEAR_PEAK.write_text("5")
    except OSError as error:
        return f"the peak of memory cannot be reset: {error}"
    return None


def device_bytes(way: Way) -> float:
    """Largest memory of tensors on the CUDA device during the turn."""
    import torch

    way.before()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    way.run()
    return float(torch.cuda.max_memory_allocated())


METERS: dict[MeterName, Callable[[Way], float]] = {
    "cpu_seconds": by_clock(time.process_time),
    "wall_seconds": by_clock(time.perf_counter),
    "added_bytes": added_bytes,
    "device_bytes": device_bytes,
}
