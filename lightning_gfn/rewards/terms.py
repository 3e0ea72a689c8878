"""What all rewards share: where a trajectory ends, its prefix texts, and a term that is itself a log reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lightning_gfn.types import LogReward

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_gfn.types import Rollouts


def require_single_step(rollouts: Rollouts, reward: str) -> None:
    """Refuse prefix values for trajectories of several steps, whose prefixes are not rows of one step.

    Raises:
        ValueError: if the number of steps differs from the number of trajectories.
    """
    num_steps = rollouts.steps.num_steps
    if num_steps != rollouts.num_trajectories:
        raise ValueError(
            f"{reward}: prefix values need one step a trajectory, got {num_steps} steps of {rollouts.num_trajectories} "
            "trajectories; use an objective on terminal rewards (TB, VarGrad, GRPO)"
        )


def pad_prefix_values(rows: list[list[float]], rollouts: Rollouts) -> Tensor:
    """Stack per-prefix values as (B, T + 1); beyond the last prefix each row repeats its last value."""
    width = rollouts.action_mask_NT.shape[1] + 1
    padded = [row + row[-1:] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.float32, device=rollouts.action_mask_NT.device).reshape(len(rows), width)


def log_reward_of_term(terms: Mapping[str, Tensor], name: str, rollouts: Rollouts) -> LogReward:
    """Read one term as a log reward at weight 1 and temperature 1.

    Args:
        terms: untempered terms, (B,) or (B, T + 1).
        name: which of them.
        rollouts: tells where each trajectory ends.

    Returns:
        The terminal values, and the prefix values if the term holds them.

    Raises:
        ValueError: if there is no such term.
    """
    if name not in terms:
        raise ValueError(
            f"the reward term '{name}' is missing, there is {sorted(terms)}: a replay buffer filled under another "
            "reward cannot be used; start with an empty one"
        )
    values = terms[name]
    if values.dim() == 1:
        return LogReward(terminal_B=values)
    return LogReward(terminal_B=rollouts.at_last_prefix(values), prefix_BT1=values)
