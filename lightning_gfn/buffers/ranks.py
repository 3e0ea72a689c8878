"""The log rewards by which a replay buffer compares: of stored terms, as the reward combines them now."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from lightning_gfn.buffers.packing import PackedTrajectory
from lightning_gfn.interfaces import Reward
from lightning_gfn.types import CORRECT, Problem, Rollouts, Source, StepBatch


class Ranks:
    """Log rewards of held trajectories, computed when they are asked for and kept until a schedule moves on."""

    def __init__(self) -> None:
        self.reward: Reward | None = None
        self.optimizer_step = 0
        self.schedule: tuple[float, ...] = ()
        self.known: dict[int, float] = {}

    def rank_by(self, reward: Reward, optimizer_step: int) -> None:
        """Take the reward at an optimiser step; earlier values count no more if its schedule has moved.

        Args:
            reward: combines terms.
            optimizer_step: at which it does.
        """
        schedule = reward.schedule_values(optimizer_step)
        if reward is not self.reward or schedule != self.schedule:
            self.known.clear()
        self.reward, self.optimizer_step, self.schedule = reward, optimizer_step, schedule

    def forget(self, packed: PackedTrajectory | None = None) -> None:
        """Drop what is kept of a trajectory that leaves, or of all."""
        if packed is None:
            self.known.clear()
        else:
            self.known.pop(id(packed), None)

    def log_rewards(self, held: Sequence[PackedTrajectory]) -> list[float]:
        """The log reward of each trajectory, nats.

        Raises:
            ValueError: one is not finite.
        """
        if self.reward is None or not self.schedule:
            return [packed.log_reward for packed in held]
        unknown: dict[tuple[str, ...], list[PackedTrajectory]] = {}
        for packed in held:
            if id(packed) not in self.known:
                unknown.setdefault(packed.names, []).append(packed)
        for alike in unknown.values():
            values = combined(self.reward, alike, self.optimizer_step)
            self.known.update(zip(map(id, alike), values, strict=True))
        return [self.known[id(packed)] for packed in held]


def combined(reward: Reward, held: Sequence[PackedTrajectory], optimizer_step: int) -> list[float]:
    """Tempered log rewards of trajectories with terms of the same names, nats.

    Args:
        reward: combines their terms.
        held: B trajectories; of a term per prefix the last value counts.
        optimizer_step: at which it does.

    Raises:
        ValueError: one is not finite.
    """
    names = held[0].names
    last_BK = torch.tensor([packed.values[packed.counts.cumsum() - 1].tolist() for packed in held]).float()
    terms = {name: last_BK[:, k] for k, name in enumerate(names) if name != CORRECT}
    values: list[float] = reward.combine(terms, bare_rollouts(held), optimizer_step).terminal_B.tolist()
    for packed, value in zip(held, values, strict=True):
        if not math.isfinite(value):
            raise ValueError(
                f"log reward {value} of a replayed trajectory of problem {packed.problem_id!r} at optimiser step "
                f"{optimizer_step} is not finite: check the weights and temperatures of model.reward"
            )
    return values


def bare_rollouts(held: Sequence[PackedTrajectory]) -> Rollouts:
    """Trajectories without tokens: one empty step each."""
    source: Source = "replay"
    empty = torch.zeros(len(held), 0, dtype=torch.int64)
    ids = list(dict.fromkeys(packed.problem_id for packed in held))
    place = {id_: p for p, id_ in enumerate(ids)}
    return Rollouts(
        problems=tuple(Problem(id=id_, prompt="") for id_ in ids),
        problem_index_B=torch.tensor([place[packed.problem_id] for packed in held]),
        trajectory_index_N=torch.arange(len(held)),
        steps=StepBatch(empty, empty.bool(), empty, empty.bool()),
        completions=tuple(packed.completion for packed in held),
        sources=(source,) * len(held),
    )
