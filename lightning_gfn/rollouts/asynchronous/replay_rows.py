"""Replayed trajectories that travel with a request: the buffer itself stays with the trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_gfn.interfaces import Buffer
from lightning_gfn.rollouts.group_sampler import GroupSampler
from lightning_gfn.types import Problem, Trajectory


class ReplayRows(Buffer):
    """What the trainer's buffer gave for the problems of one rollout batch; read only.

    Args:
        rows: the draw of each problem whose source is ``replay``.
    """

    def __init__(self, rows: Mapping[str, list[Trajectory]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        """Trajectories held."""
        return sum(map(len, self.rows.values()))

    def add(self, trajectories: Iterable[Trajectory]) -> int:
        """Nothing is taken."""
        return 0

    def sample(self, problem_id: str | None, num_samples: int, uniforms: Sequence[float]) -> list[Trajectory]:
        """The draw of a problem."""
        return self.rows.get(problem_id or "", [])

    def state_dict(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


def drawn_rows(
    sampler: GroupSampler, problems: Sequence[Problem], buffer: Buffer | None, rollout_step: int
) -> ReplayRows | None:
    """The rows that a sampler would draw from a buffer for a rollout batch; None without a buffer.

    Args:
        sampler: says which problems are replayed, and with which random numbers.
        problems: of the batch.
        buffer: as it is now.
        rollout_step: rollout batch counter.
    """
    if buffer is None:
        return None
    asked = [p.id for p in problems if sampler.source_of(p, rollout_step) == "replay"]
    return ReplayRows({problem_id: sampler.drawn(problem_id, rollout_step, buffer) for problem_id in asked})
