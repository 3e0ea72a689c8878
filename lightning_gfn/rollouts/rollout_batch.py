"""What is sampled in a training step, and what it cost: without rewards and with them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from lightning_gfn.lean_types import Episode
from lightning_gfn.types import LogReward, Rollouts


@dataclass(frozen=True)
class SampledBatch:
    """Trajectories as a sampler collected them, before they are rewarded.

    Args:
        rollouts: grouped by problem.
        costs: what was spent on other things than these trajectories: ``generated_tokens``, ``environment_steps``.
        metrics: for the log.
    """

    rollouts: Rollouts
    costs: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutBatch:
    """A rollout batch and what it cost, all rounds included.

    Args:
        rollouts: with reward terms.
        log_reward: of its trajectories.
        generated_tokens: action tokens that were sampled.
        reward_calls: trajectories that the reward was asked about.
        environment_steps: tactics that a proof environment was asked about.
        metrics: for the log.
    """

    rollouts: Rollouts
    log_reward: LogReward
    generated_tokens: int
    reward_calls: int
    environment_steps: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def costs(self) -> dict[str, int]:
        """What the batch cost, under the names that ``training_step`` returns them by."""
        return {
            "generated_tokens": self.generated_tokens,
            "reward_calls": self.reward_calls,
            "environment_steps": self.environment_steps,
        }


def sampled_tokens(rollouts: Rollouts) -> int:
    """Action tokens that were sampled for a batch, not replayed, given or written by a tool."""
    sampled_B = torch.tensor([source in ("on_policy", "tempered") for source in rollouts.sources])
    lengths_N = rollouts.steps.chosen_NT.sum(1).cpu()
    return int(lengths_N[sampled_B[rollouts.trajectory_index_N.cpu()]].sum())


def environment_steps(rollouts: Rollouts) -> int:
    """Tactics of a batch that a proof environment was asked about; replayed ones never are."""
    return tactics_asked(zip(rollouts.problem_index_B.tolist(), rollouts.episodes or (), strict=False))


def tactics_asked(attempts: Iterable[tuple[Hashable, Episode | None]]) -> int:
    """Tactics that attempts asked an environment about: equal ones in one state of a problem count once.

    Args:
        attempts: the problem of each, and its episode.
    """
    return len(
        {
            (problem, episode.tactics[: k + 1])
            for problem, episode in attempts
            if episode is not None
            for k in range(len(episode.tactics))
        }
    )
