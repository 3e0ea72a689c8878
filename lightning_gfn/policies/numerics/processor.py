"""What suits a processor: rows in parts that its cache holds, and products as narrow as it multiplies fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CACHE_BYTES = 2**20
"""What operations that follow each other keep between them: half of a usual second-level cache."""


def cached_rows(num_rows: int, bytes_of_row: int, device: torch.device) -> Iterator[slice]:
    """Parts of M rows that stay in a processor's cache while several operations go over them; other devices take all.

    Of no rows there is one part, which is empty: what follows from the parts has its shape all the same.

    Args:
        num_rows: M.
        bytes_of_row: of one row, in all tensors that the operations touch.
        device: where they run.
    """
    rows = max(1, CACHE_BYTES // max(1, bytes_of_row) if device.type == "cpu" else num_rows)
    for start in range(0, max(1, num_rows), rows):
        yield slice(start, min(start + rows, num_rows))


def cpu_has_bfloat16() -> bool:
    """True if the processor multiplies bfloat16 in hardware; without, float32 is faster and more exact."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def multiplies_narrow(dtype: torch.dtype, device: torch.device) -> bool:
    """True if the device is faster at products of this narrow type than at float32."""
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    return device.type != "cpu" or (dtype == torch.bfloat16 and cpu_has_bfloat16())


def asked_dtype(device: torch.device, own: torch.dtype) -> torch.dtype:
    """What the surrounding autocast computes in; without one, the type of the weights.

    Args:
        device: where the products run.
        own: of the weights.
    """
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else own


@contextmanager
def narrow_products(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Inside, a processor that is fast at ``dtype`` multiplies float32 numbers as such, and adds up in float32."""
    if device.type != "cpu" or not multiplies_narrow(dtype, device):
        yield
        return
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
