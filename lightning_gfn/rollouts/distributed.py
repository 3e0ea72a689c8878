"""What every rank has, on all ranks."""

from __future__ import annotations

from typing import TypeVar

Item = TypeVar("Item")


def gather_all(items: list[Item]) -> list[Item]:
    """The items of all ranks, in order of rank; every rank must call it.

    Args:
        items: this rank's, possibly none.

    Returns:
        Those of rank 0, then of rank 1, …: the same list on every rank; without a process group the argument itself.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return items
    parts: list[list[Item]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
