"""Costs of a stage of work: the axes, the file that keeps them, and peak memory."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COUNTS = ("generated_tokens", "reward_calls", "gradient_tokens", "environment_steps")
SINCE_PROOFS = "environment_steps"
"""A count that files from before there were theorems lack: then it is 0."""
SUMMED = (*COUNTS, "optimizer_steps", "wall_seconds")
PEAK = "peak_memory_mib"


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory (MiB) since ``reset_peak_memory``: allocated by torch on a GPU, resident on a CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def reset_peak_memory(device: torch.device) -> None:
    """Forget former peaks, so that stages in one process do not inherit them; no effect where the system cannot."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: sets the high-water mark to what is resident now
    except OSError:
        return


def read_spent(path: Path) -> dict[str, float]:
    """The totals of a ``budget.json``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a budget file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"prior budget {path} does not exist: finish that stage first (it writes the file when it ends), "
            "or take the path out of Budget's prior"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content = {SINCE_PROOFS: 0.0, **content}
        spent = {name: float(content[name]) for name in (*SUMMED, PEAK)}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"prior budget {path} is malformed ({error!r}): it needs {', '.join((*SUMMED, PEAK))}"
        ) from error
    for name, value in spent.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"prior budget {path}: {name} must be a number of at least 0, got {value}")
    return spent


def add_up(stages: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums over stages, and the highest of their peaks of memory."""
    stages = list(stages)
    total = {name: sum(stage[name] for stage in stages) for name in SUMMED}
    return {**total, PEAK: max((stage[PEAK] for stage in stages), default=0.0)}


def sampling_cost(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What sampling cost, in the form of a ``budget.json``.

    Args:
        ranks: what each rank spent: ``generated_tokens``, ``reward_calls``, ``wall_seconds`` and ``peak_memory_mib``,
            and ``environment_steps`` where theorems were attempted.

    Returns:
        tokens and calls of all ranks, the seconds of the slowest, the highest peak; no gradient tokens and no optimiser
        steps.
    """
    summed = {name: sum(rank[name] for rank in ranks) for name in ("generated_tokens", "reward_calls")}
    summed[SINCE_PROOFS] = sum(rank.get(SINCE_PROOFS, 0) for rank in ranks)
    highest = {name: max(rank[name] for rank in ranks) for name in ("wall_seconds", PEAK)}
    return {**summed, "gradient_tokens": 0, "optimizer_steps": 0, **highest}
