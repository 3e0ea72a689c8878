"""Reward terms of a batch; replayed trajectories bring theirs along and cost nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rollouts.batching import select_trajectories
from lightning_gfn.types import Rollouts


@torch.no_grad()
def evaluate_rewards(rollouts: Rollouts, reward: Reward, policy: Policy, *, prefixes: bool) -> tuple[Rollouts, int]:
    """Compute the reward terms of every trajectory that does not carry stored ones.

    Args:
        rollouts: as ``RolloutSampler.collect`` gave them.
        reward: computes terms.
        policy: handed to the reward.
        prefixes: terms per prefix, (B, T + 1), instead of (B,).

    Returns:
        The rollouts with all terms and verdicts, and the number of trajectories that the reward was asked about.

    Raises:
        ValueError: if replayed trajectories carry other terms than the reward gives.
    """
    fresh = [b for b, source in enumerate(rollouts.sources) if source != "replay"]
    if len(fresh) == rollouts.num_trajectories:
        terms, correct_B = reward.terms(rollouts, policy, prefixes=prefixes)
        return rollouts.with_terms(terms, correct_B), len(fresh)
    merged = {name: _shaped(name, values, rollouts, prefixes) for name, values in rollouts.terms.items()}
    correct_B = rollouts.correct_B
    if fresh:
        part = select_trajectories(rollouts, fresh)
        terms, verdicts_B = reward.terms(part, policy, prefixes=prefixes)
        if set(terms) != set(merged) or (correct_B is None) != (verdicts_B is None):
            raise ValueError(
                f"replayed trajectories carry the reward terms {sorted(merged)}, but {type(reward).__name__} gives "
                f"{sorted(terms)}: the buffer was filled under another reward; start with an empty one"
            )
        index = torch.tensor(fresh, device=rollouts.problem_index_B.device)
        merged = {name: values.index_copy(0, index, terms[name].to(values)) for name, values in merged.items()}
        if correct_B is not None and verdicts_B is not None:
            correct_B = correct_B.index_copy(0, index, verdicts_B.to(correct_B))
    return rollouts.with_terms(merged, correct_B), len(fresh)


def _shaped(name: str, values: Tensor, rollouts: Rollouts, prefixes: bool) -> Tensor:
    if values.dim() == 2:
        return values if prefixes else rollouts.at_last_prefix(values)
    if prefixes:
        raise ValueError(
            f"replayed trajectories carry '{name}' for finished trajectories only, but the objective needs it for "
            "every prefix: the buffer was filled under another objective; start with an empty one"
        )
    return values
