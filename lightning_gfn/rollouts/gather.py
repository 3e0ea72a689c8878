"""One buffer content on all ranks."""

from __future__ import annotations

from lightning_gfn.types import Trajectory


def gather_trajectories(trajectories: list[Trajectory]) -> list[Trajectory]:
    """The trajectories of all ranks, in order of rank; every rank must call it in every step.

    Args:
        trajectories: this rank's, possibly none.

    Returns:
        Those of rank 0, then of rank 1, …: the same list on every rank; without a process group the argument itself.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return trajectories
    parts: list[list[Trajectory]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, trajectories)
    return [trajectory for part in parts for trajectory in part]
