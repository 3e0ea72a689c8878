"""Bounds of an accelerator, measured in the same run: how fast it copies memory and multiplies matrices."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from benchmarks.frame.floors import linear_shapes
from benchmarks.frame.row import Floor

COPIED_BYTES, REPEATS = 2**30, 10


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Wall seconds of one call, the best of three groups of calls."""

    def group() -> float:
        started = time.perf_counter()
        for _ in range(REPEATS):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / REPEATS

    group()
    return min(group() for _ in range(3))


@cache
def copy_rate(device: str, num_bytes: int) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / seconds_of(lambda: target.copy_(source), device)


def moving_floor(num_bytes: float, device: str, copied: int = COPIED_BYTES) -> Floor:
    """Moving so many bytes between memory and the device's units once."""
    rate = copy_rate(device, copied)
    return Floor(f"moving {num_bytes / 1e9:.2f} GB at {rate / 1e9:.0f} GB/s", num_bytes / rate)


@cache
def product_rate(device: str, size: int) -> float:
    """Operations a second of a square bfloat16 product."""
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    return 2.0 * size**3 / seconds_of(lambda: left @ right, device)


def product_floor(model: nn.Module, tokens: int, device: str, *, frozen: bool = False, size: int = 8192) -> Floor:
    """The products of a forward and backward pass over so many tokens at the rate of a large square one.

    Args:
        model: whose linear layers count, adapters aside.
        tokens: rows of each product.
        device: where they run.
        frozen: the weights get no gradient.
        size: of the square product.
    """
    operations = 2 * tokens * (2 if frozen else 3) * sum(a * b * n for (a, b), n in linear_shapes(model).items())
    rate = product_rate(device, size)
    return Floor(f"matrix products, {operations / 1e12:.1f} TFLOP at {rate / 1e12:.0f} TFLOP/s", operations / rate)
