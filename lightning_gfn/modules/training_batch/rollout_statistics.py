"""What modules log of the trajectories that they sample, under the same keys for every method."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from lightning_gfn.modules.training_batch.columns import trajectory_log_prob
from lightning_gfn.types import Rollouts, Scores, Source


def within_group_variance(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Mean over trajectories of the squared deviation from their group's mean, a scalar."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    count_P = torch.bincount(index_B).to(values_B.dtype)
    mean_P = torch.zeros_like(count_P).index_add(0, index_B, values_B) / count_P
    return (values_B - mean_P[index_B]).square().mean()


def truncated_B(rollouts: Rollouts, max_new_tokens: int) -> Tensor:
    """Was a step of the trajectory cut at the maximum length? bool (B,)."""
    forced_N = (rollouts.steps.lengths_N >= max_new_tokens).to(torch.int64)
    count_B = forced_N.new_zeros(rollouts.num_trajectories).index_add(0, rollouts.trajectory_index_N, forced_N)
    return count_B > 0


def rollout_statistics(rollouts: Rollouts, log_reward_B: Tensor, max_new_tokens: int) -> dict[str, float | Tensor]:
    """Rewards, lengths, sources and solve rate of trajectories.

    Args:
        rollouts: B trajectories with verdicts, where answers are checked.
        log_reward_B: their tempered log rewards, nats.
        max_new_tokens: length of an action that forces its stop, tokens.

    Returns:
        ``log_reward_mean``, ``completion_length_mean`` (action tokens), ``truncated_share`` (trajectories with a forced
        stop in any step), ``share_<source>``, and ``solve_rate_on_policy`` where answers are checked and a trajectory
        is on-policy.
    """
    statistics: dict[str, float | Tensor] = {
        "log_reward_mean": log_reward_B.mean(),
        "completion_length_mean": rollouts.steps.chosen_NT.sum().float() / rollouts.num_trajectories,
        "truncated_share": truncated_B(rollouts, max_new_tokens).float().mean(),
    }
    for source in get_args(Source):
        statistics[f"share_{source}"] = rollouts.sources.count(source) / rollouts.num_trajectories
    fresh_B = torch.tensor([source == "on_policy" for source in rollouts.sources], device=log_reward_B.device)
    if rollouts.correct_B is not None and bool(fresh_B.any()):
        statistics["solve_rate_on_policy"] = rollouts.correct_B[fresh_B].float().mean()
    return statistics


def score_statistics(rollouts: Rollouts, scores: Scores, log_reward_B: Tensor) -> dict[str, float | Tensor]:
    """Likelihood of trajectories under the policy, and its entropy.

    Args:
        rollouts: B trajectories.
        scores: of their N steps; no gradient goes through what is returned.
        log_reward_B: their tempered log rewards, nats.

    Returns:
        ``log_pf_mean``, ``var_log_reward_minus_log_q`` (0 where q is proportional to R), and ``entropy_mean`` where the
        scores hold entropies.
    """
    log_pf_B = trajectory_log_prob(scores, rollouts).detach()
    statistics: dict[str, float | Tensor] = {
        "log_pf_mean": log_pf_B.mean(),
        "var_log_reward_minus_log_q": within_group_variance(log_reward_B - log_pf_B, rollouts.problem_index_B),
    }
    if scores.entropy_NT1 is not None:
        positions_NT1 = scores.stop_mask_NT1.clone()
        positions_NT1[:, :-1] |= rollouts.steps.chosen_NT
        statistics["entropy_mean"] = scores.entropy_NT1.detach()[positions_NT1].mean()
    return statistics
