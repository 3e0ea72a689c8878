"""The machine and the software that figures belong to."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "peft", "lightning", "mlflow", "rouge-score", "nltk", "lightning-gfn")


def processor() -> str:
    """Its name as the system gives it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found is not None else platform.processor() or platform.machine()


def processor_kind() -> str:
    """What ratios depend on: ``amx`` or ``avx512_bf16`` (bfloat16 in hardware), ``avx512``, ``avx2`` or ``other``."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    if torch.cpu._is_avx512_supported():
        return "avx512"
    return "avx2" if torch.cpu._is_avx2_supported() else "other"


def installed(package: str) -> str | None:
    """Its version; None if it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def facts(threads: int) -> dict[str, Any]:
    """Processor, load, memory, threads and versions."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": processor(),
        "kind": processor_kind(),
        "bf16": torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "threads": threads,
        "load": [round(value, 2) for value in os.getloadavg()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := installed(name)) is not None},
    }


def needs_package(module: str, remedy: str) -> Any:
    """A need of a row: the module can be imported."""

    def need() -> str | None:
        return None if importlib.util.find_spec(module) is not None else f"{module} is not installed: {remedy}"

    return need


def needs_gpu() -> str | None:
    """A need of a row: a CUDA device."""
    import torch

    return None if torch.cuda.is_available() else "no CUDA device here"
