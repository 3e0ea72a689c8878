"""Rows in parts, and products of narrow numbers: what is covered, what is computed, and what is given back."""

from __future__ import annotations

import pytest
import torch

from lightning_gfn.policies.numerics.processor import (
    CACHE_BYTES,
    asked_dtype,
    cached_rows,
    cpu_has_bfloat16,
    narrow_products,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_rows", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("bytes_of_row", [1, CACHE_BYTES // 7, CACHE_BYTES, 3 * CACHE_BYTES])
def test_parts_hold_every_row_once_and_fit_the_cache(num_rows: int, bytes_of_row: int) -> None:
    parts = list(cached_rows(num_rows, bytes_of_row, CPU))
    assert [row for part in parts for row in range(num_rows)[part]] == list(range(num_rows))
    assert all((part.stop - part.start) * bytes_of_row <= max(CACHE_BYTES, bytes_of_row) for part in parts)
    assert parts and list(cached_rows(num_rows, bytes_of_row, torch.device("meta"))) == [slice(0, num_rows)]


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="only such processors multiply narrow numbers faster")
def test_narrow_products_round_their_factors_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator) for shape in ((64, 512), (512, 96)))
    exact = left.double() @ right.double()
    rounded = left.bfloat16().double() @ right.bfloat16().double()
    with narrow_products(torch.bfloat16, CPU):
        found = (left @ right).double()
    # Without a matrix unit the library may take float32 products, which it finds no slower.
    narrows = torch.cpu._is_amx_tile_supported() or bool((found - exact).abs().max() > 1e-3)
    expected, other = (rounded, exact) if narrows else (exact, rounded)
    assert (found - expected).abs().max() < 1e-3 < 1e-2 < (found - other).abs().max()
    assert ((left @ right).double() - exact).abs().max() < 1e-3


def test_the_setting_is_given_back_also_after_an_error() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(RuntimeError, match="size"), narrow_products(torch.bfloat16, CPU):
        raise RuntimeError("size")
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_autocast_asks_before_the_weights() -> None:
    assert asked_dtype(CPU, torch.float64) == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert asked_dtype(CPU, torch.float32) == torch.bfloat16
