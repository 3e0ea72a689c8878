"""Processor, memory, GPUs and disk of this machine."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gfn.commands.doctor_parts.findings import Finding, State
from lightning_gfn.installation.cache import cache_root

GIB = 2**30
SIZE = 384
"""Rows of the matrices whose product is timed."""
ROUNDS = 20
LITTLE_DISK, LITTLE_MEMORY = 5 * GIB, 4 * GIB
CUDA = "pip install torch (a CUDA build; https://pytorch.org/get-started/locally)"


@dataclass(frozen=True)
class Device:
    """Where a model would be trained.

    Args:
        kind: ``cuda``, ``mps`` or ``cpu``.
        name: of the GPU or processor.
        memory: bytes that may be used.
        cores: of the processor.
    """

    kind: str
    name: str
    memory: int
    cores: int


def available_cores() -> int:
    """Processor cores that this process may use: by its affinity and its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = read_text("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def available_memory() -> int:
    """Bytes of memory that are free for this process, its control group considered."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit, used = (read_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    return min(free, max(0, int(limit) - int(used))) if limit.isdigit() and used.isdigit() else free


def total_memory() -> int:
    """Bytes of memory of the machine."""
    import psutil

    return int(psutil.virtual_memory().total)


def read_text(path: str) -> str:
    """A file of the system; empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def processor_name() -> str:
    """The processor's name."""
    names = (line.partition(":")[2].strip() for line in read_text("/proc/cpuinfo").splitlines() if "model name" in line)
    return next(names, platform.processor() or platform.machine())


def training_device() -> Device:
    """The device that ``accelerator: auto`` takes."""
    import torch

    cores = available_cores()
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info(0)
        return Device("cuda", torch.cuda.get_device_name(0), free, cores)
    kind = "mps" if torch.backends.mps.is_available() else "cpu"
    return Device(kind, processor_name(), available_memory(), cores)


def products_per_second(dtype: Any) -> float:
    """Floating-point operations a second of one core in products of two matrices.

    One core, because several that wait for each other measure what else the machine does; the best of many short
    rounds, for the same reason.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = (torch.ones(SIZE, SIZE, dtype=dtype) for _ in range(2))
        best = float("inf")
        for _ in range(ROUNDS):
            started = time.perf_counter()
            torch.matmul(left, right)
            best = min(best, time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 2.0 * SIZE**3 / best


def examine_processor(measure: bool) -> Iterator[Finding]:
    """Cores, memory and bfloat16 arithmetic."""
    import torch

    threads = torch.get_num_threads()
    remark = " (OMP_NUM_THREADS)" if "OMP_NUM_THREADS" in os.environ else ""
    yield Finding(
        "Machine", "processor", "ok", f"{processor_name()}; {available_cores()} cores, {threads} threads{remark}"
    )
    free = available_memory()
    state: State = "note" if free < LITTLE_MEMORY else "ok"
    yield Finding("Machine", "memory", state, f"{free / GIB:.1f} GiB free of {total_memory() / GIB:.1f}")
    units = [
        name
        for name, there in (
            ("AMX", torch.cpu._is_amx_tile_supported()),
            ("AVX512-BF16", torch.cpu._is_avx512_bf16_supported()),
        )
        if there
    ]
    text = f"in hardware ({', '.join(units)})" if units else "not in hardware: train and sample in float32 here"
    if measure:
        single, half = (products_per_second(dtype) for dtype in (torch.float32, torch.bfloat16))
        text += f"; products measured on one core: float32 {single / 1e9:.0f}, bfloat16 {half / 1e9:.0f} GFLOP/s"
        text += f" ({half / single:.1f} times)"
    yield Finding("Machine", "bfloat16", "ok" if units else "note", text)


def examine_gpus() -> Iterator[Finding]:
    """GPUs that torch sees, or why it sees none."""
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        text = f"{torch.cuda.get_device_name(index)}; {free / GIB:.1f} GiB free of {total / GIB:.1f}"
        yield Finding("Machine", f"GPU {index}", "ok", text)
    if torch.cuda.device_count():
        return
    gives = "models of a billion parameters and more, and training some ten to a hundred times faster"
    if torch.backends.mps.is_available():
        yield Finding("Machine", "GPU", "ok", "Apple's, through MPS")
    elif shutil.which("nvidia-smi") is not None:
        built = torch.version.cuda
        why = "this torch was built without CUDA" if built is None else f"torch (CUDA {built}) cannot use it: driver?"
        yield Finding(
            "Machine", "GPU", "missing", f"nvidia-smi is there, but {why}", gives, CUDA if built is None else ""
        )
    else:
        yield Finding("Machine", "GPU", "note", "none; small models train on the processor", gives)


def examine_disk() -> Iterator[Finding]:
    """Room for runs, for what is installed, and for temporary files."""
    for name, folder in (
        ("runs (here)", Path.cwd()),
        ("cache", cache_root()),
        ("temporary", Path(tempfile.gettempdir())),
    ):
        there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        text = f"{free / GIB:.1f} GiB free in {folder}" + ("" if writable else ", which cannot be written")
        yield Finding("Disk", name, "note" if free < LITTLE_DISK or not writable else "ok", text)


def examine_python() -> Iterator[Finding]:
    """Interpreter and system."""
    text = f"{platform.python_version()} in {sys.prefix}"
    yield Finding("Software", "Python", "ok", f"{text}; {platform.system()} {platform.machine()}")
