"""Splits of generated items: a hash of what they must not share decides, whatever the seed of the draw."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

from datamodules.common.base import Split

SHARES: dict[Split, tuple[float, float]] = {"test": (0.0, 0.2), "val": (0.2, 0.3), "train": (0.3, 1.0)}
"""Which part of the range of hashes each split draws from."""
MAX_VAIN_DRAWS = 20_000
"""Draws in a row without a new item after which there are taken to be no more."""

Item = TypeVar("Item")


def distinct_draws(split: Split, count: int, draw: Callable[[], tuple[Hashable, int, Item]]) -> list[Item]:
    """Draw different items of a split, fewer than asked for if no new one comes for long.

    Args:
        split: which one.
        count: items that are wanted.
        draw: gives a key, which differs between different items, a hash (64 bits) of what no two splits may share, and
            the item.

    Returns:
        The items in the order in which they were drawn.
    """
    low, high = SHARES[split]
    found: dict[Hashable, Item] = {}
    vain = 0
    while len(found) < count and vain < MAX_VAIN_DRAWS:
        key, shared, item = draw()
        if key in found or not low <= shared / 2**64 < high:
            vain += 1
            continue
        found[key] = item
        vain = 0
    return list(found.values())
