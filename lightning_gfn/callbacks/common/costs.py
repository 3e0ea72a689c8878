"""Costs of a stage of work: the axes, the file that keeps them, and peak memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

COUNTS = ("generated_tokens", "reward_calls", "gradient_tokens", "environment_steps")
PROCESSOR = "processor_seconds"
SUMMED = (*COUNTS, "optimizer_steps", "wall_seconds", PROCESSOR)
LABELS = "labels"
PEAK = "peak_memory_mib"
HIGHEST = (LABELS, PEAK)
"""Of several stages the highest counts: they are taken to read labels of the same problems."""
LATER = ("environment_steps", PROCESSOR, LABELS)
"""What files of earlier versions lack: then it is 0."""


def processor_seconds() -> float:
    """Processor time of this process, all of its threads, and of those of its children that have ended."""
    children = os.times()  # which counts in steps of 10 ms
    return time.process_time() + children.children_user + children.children_system


def label_keys(batch: Any) -> set[int]:
    """A key for each different prompt of a training batch that comes with a label.

    Labels are answers, solutions, texts that follow, targets, theorems and preferences.

    Args:
        batch: of problems or of preferences; anything else has none.
    """
    if not isinstance(batch, Sequence) or isinstance(batch, str):
        return set()
    prompts = {item.prompt for item in batch if hasattr(item, "prompt") and is_labelled(item)}
    digests = (hashlib.blake2b(prompt.encode(), digest_size=7).digest() for prompt in prompts)
    return {int.from_bytes(digest, "little") for digest in digests}


def is_labelled(item: Any) -> bool:
    """True for a preference, and for a problem that says something of its completions."""
    fields = ("answer", "solutions", "evidence", "target", "theorem")
    known = [getattr(item, name) for name in fields if hasattr(item, name)]
    return not known or any(value is not None and value != () for value in known)


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
        content = {**dict.fromkeys(LATER, 0.0), **content}
        spent = {name: float(content[name]) for name in (*SUMMED, *HIGHEST)}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"prior budget {path} is malformed ({error!r}): it needs {', '.join((*SUMMED, *HIGHEST))}"
        ) from error
    for name, value in spent.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"prior budget {path}: {name} must be a number of at least 0, got {value}")
    return spent


def add_up(stages: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums over stages; of memory and of labels the highest."""
    stages = list(stages)
    total = {name: sum(stage[name] for stage in stages) for name in SUMMED}
    return {**total, **{name: max((stage[name] for stage in stages), default=0.0) for name in HIGHEST}}


def sampling_cost(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What sampling cost, in the form of a ``budget.json``.

    Args:
        ranks: what each rank spent: ``generated_tokens``, ``reward_calls``, ``wall_seconds`` and ``peak_memory_mib``,
            and where they are known ``environment_steps``, ``processor_seconds`` and ``labels``.

    Returns:
        tokens and calls of all ranks, the seconds of the slowest, the highest peak; no gradient tokens and no optimiser
        steps.
    """
    summed = {name: sum(rank[name] for rank in ranks) for name in ("generated_tokens", "reward_calls")}
    summed |= {name: sum(rank.get(name, 0) for rank in ranks) for name in LATER}
    highest = {name: max(rank[name] for rank in ranks) for name in ("wall_seconds", PEAK)}
    return {**summed, "gradient_tokens": 0, "optimizer_steps": 0, **highest}
