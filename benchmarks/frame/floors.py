"""Bounds measured in the same run: how fast this machine multiplies matrices and reads memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.frame.row import Floor

if TYPE_CHECKING:
    import torch
    from torch import nn

LEAST_SECONDS, READ_BYTES = 0.05, 2**29


def best_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call, the best of three repeats that last long enough to be measured."""
    work()
    repeats = 1
    while True:
        started = time.process_time()
        for _ in range(repeats):
            work()
        spent = time.process_time() - started
        if spent >= LEAST_SECONDS:
            break
        repeats *= 2
    best = spent
    for _ in range(2):
        started = time.process_time()
        for _ in range(repeats):
            work()
        best = min(best, time.process_time() - started)
    return best / repeats


def fast_dtype() -> torch.dtype:
    """The type in which this processor multiplies fastest."""
    import torch

    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def linear_shapes(model: nn.Module) -> Counter[tuple[int, int]]:
    """How many linear layers of each (in, out) a model has, without adapters; the output layer is one of them."""
    from torch import nn

    layers = (m for name, m in model.named_modules() if isinstance(m, nn.Linear) and "lora_" not in name)
    return Counter((layer.in_features, layer.out_features) for layer in layers)


@cache
def product_seconds(rows: int, inner: int, columns: int, dtype: torch.dtype) -> float:
    """Processor seconds of one product (rows, inner) × (inner, columns), weights as linear layers keep them."""
    import torch
    from torch.nn.functional import linear

    x_MK, weight_NK = torch.randn(rows, inner, dtype=dtype), torch.randn(columns, inner, dtype=dtype)
    with torch.no_grad():
        return best_seconds(lambda: linear(x_MK, weight_NK))


def training_products(model: nn.Module, tokens: int, dtype: torch.dtype, *, frozen: bool = False) -> float:
    """Seconds of the products of a forward and backward pass over so many tokens.

    Each layer has three: y = x Wᵀ, dx = dy W, and dW = dyᵀ x, which frozen weights do without.

    Args:
        model: whose linear layers count.
        tokens: rows of x.
        dtype: of both factors.
        frozen: the weights get no gradient (LoRA); the adapter's own products are not counted.
    """
    total = 0.0
    for (inner, outer), count in linear_shapes(model).items():
        seconds = product_seconds(tokens, inner, outer, dtype) + product_seconds(tokens, outer, inner, dtype)
        if not frozen:
            seconds += product_seconds(outer, tokens, inner, dtype)
        total += count * seconds
    return total


def training_floor(model: nn.Module, tokens: int, *, frozen: bool = False) -> Floor:
    """The products of a training pass at the processor's fastest type."""
    dtype = fast_dtype()
    seconds = training_products(model, tokens, dtype, frozen=frozen)
    operations = 2 * tokens * (2 if frozen else 3) * sum(a * b * n for (a, b), n in linear_shapes(model).items())
    name = f"matrix products, {operations / seconds / 1e9:.0f} GFLOP/s {str(dtype).removeprefix('torch.')}"
    return Floor(name, seconds)


@cache
def read_rate() -> float:
    """Bytes a second that one pass over a large matrix reads: a matrix-vector product, which computes next to nothing.

    Measured in the type that reads fastest here.
    """
    import torch

    rates = []
    for dtype in (torch.float32, fast_dtype()):
        columns = 4096
        matrix = torch.ones(READ_BYTES // columns // dtype.itemsize, columns, dtype=dtype)
        vector = torch.ones(columns, dtype=dtype)
        with torch.no_grad():
            rates.append(READ_BYTES / best_seconds(lambda matrix=matrix, vector=vector: torch.mv(matrix, vector)))
    return max(rates)


def read_floor(num_bytes: float) -> Floor:
    """Reading so many bytes from memory once."""
    rate = read_rate()
    return Floor(f"reading {num_bytes / 1e9:.2f} GB at {rate / 1e9:.1f} GB/s", num_bytes / rate)


def rates() -> dict[str, float]:
    """The machine's speed in this run, for the file of results."""
    import torch

    size = 1024
    seconds = {dtype: product_seconds(size, size, size, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "float32_gflops": 2e-9 * size**3 / seconds[torch.float32],
        "bfloat16_gflops": 2e-9 * size**3 / seconds[torch.bfloat16],
        "read_gb_per_second": 1e-9 * read_rate(),
    }
