"""The training step that all rollout methods share: sample, reward, score once, one loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_gfn.interfaces import Buffer, Objective, Policy, Reward
from lightning_gfn.modules.base import PolicyModule
from lightning_gfn.modules.columns import StepBoundaries, build_columns, check_columns, trajectory_log_prob
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.policies.heads import Head
from lightning_gfn.rollouts.batching import to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.gather import gather_trajectories
from lightning_gfn.rollouts.rewarding import evaluate_rewards
from lightning_gfn.rollouts.sampler import RolloutSampler
from lightning_gfn.types import LogReward, Problem, Rollouts, Scores


def within_group_variance(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Mean over trajectories of the squared deviation from their group's mean, a scalar."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    count_P = torch.bincount(index_B).to(values_B.dtype)
    mean_P = torch.zeros_like(count_P).index_add(0, index_B, values_B) / count_P
    return (values_B - mean_P[index_B]).square().mean()


class RolloutModule(PolicyModule):
    """Trains a policy on trajectories that it samples; subclasses fix where trajectories may come from.

    Args:
        policy: the language model.
        objective: any objective whose columns the reward and the head give.
        reward: turns trajectories into log rewards.
        num_samples: trajectories per problem and step.
        behaviour: where trajectories come from.
        buffer: replay buffer; needed if the behaviour replays.
        head: log Z or flow head; needed by objectives that learn one.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the sampling uniforms.
        log_entropy: also compute the policy's entropy in the scoring pass.
        method: the name under which results are compared; the class of the objective if None.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        reward: Reward,
        *,
        num_samples: int,
        behaviour: BehaviourMix,
        buffer: Buffer | None,
        head: Head | None,
        optimizer: OptimizerSettings | None,
        evaluation: EvaluationSettings | None,
        seed: int,
        log_entropy: bool,
        method: str | None,
    ) -> None:
        name = method if method is not None else type(objective).__name__
        super().__init__(policy, optimizer=optimizer, evaluation=evaluation, method=name)
        check_columns(objective, reward, head.provides if head is not None else None)
        if "group_B" in objective.requires and num_samples < 2:
            raise ValueError(
                f"objective {type(objective).__name__} compares trajectories of one problem: "
                "set model.num_samples to 2 or more"
            )
        self.objective = objective
        self.reward = reward
        self.head = head
        self.buffer = buffer
        self.sampler = RolloutSampler(num_samples=num_samples, behaviour=behaviour, seed=seed)
        self.with_prefixes = "log_reward_BT1" in objective.requires
        self.with_entropy = log_entropy or "entropy_BT1" in objective.requires
        self.boundaries = StepBoundaries(policy)
        self.num_rollout_batches = 0

    @property
    def needs_reference(self) -> bool:
        """True if the reward scores under the reference."""
        return self.reward.needs_reference

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        """Sample trajectories, score them once with gradient, and return the objective's loss."""
        rollouts = self.sampler.collect(
            self.policy, batch, step=self.num_rollout_batches, buffer=self.buffer, device=self.device
        )
        self.num_rollout_batches += 1
        rollouts, reward_calls = evaluate_rewards(rollouts, self.reward, self.policy, prefixes=self.with_prefixes)
        log_reward = self.reward.combine(rollouts.terms, rollouts, self.global_step)
        scores = self.policy.score(
            rollouts.context_ids_NC,
            rollouts.context_mask_NC,
            rollouts.action_ids_NT,
            rollouts.action_mask_NT,
            entropy=self.with_entropy,
            hidden=self.head is not None and self.head.needs_hidden,
        )
        head_columns = {min(self.head.provides): self.head(scores, rollouts)} if self.head is not None else {}
        columns = build_columns(
            self.objective, self.policy, rollouts, scores, log_reward, head_columns, self.boundaries
        )
        output = self.objective(columns)
        self.remember(rollouts, log_reward)
        self.log_output(output, **self.rollout_statistics(rollouts, scores, log_reward))
        return {"loss": self.window_loss(output), **self.budget_counts(rollouts, reward_calls)}

    def remember(self, rollouts: Rollouts, log_reward: LogReward) -> None:
        """Put the new trajectories of all ranks into the buffer of every rank, in order of rank."""
        if self.buffer is not None:
            new = to_trajectories(rollouts, log_reward, step=self.global_step)
            self.buffer.add(gather_trajectories(new))

    def budget_counts(self, rollouts: Rollouts, reward_calls: int) -> dict[str, int]:
        """What this batch cost: tokens sampled, trajectories rewarded, tokens that carried gradient."""
        sampled_B = torch.tensor([source in ("on_policy", "tempered") for source in rollouts.sources])
        lengths_N = rollouts.action_mask_NT.sum(1).cpu()
        return {
            "generated_tokens": int(lengths_N[sampled_B[rollouts.trajectory_index_N.cpu()]].sum()),
            "reward_calls": reward_calls,
            "gradient_tokens": int(lengths_N.sum() + rollouts.context_mask_NC.sum()),
        }

    def rollout_statistics(
        self, rollouts: Rollouts, scores: Scores, log_reward: LogReward
    ) -> dict[str, float | Tensor]:
        """Figures that every rollout method logs, from detached scores."""
        log_pf_B = trajectory_log_prob(scores, rollouts).detach()
        gap_B = log_reward.terminal_B - log_pf_B
        statistics: dict[str, float | Tensor] = {
            "log_reward_mean": log_reward.terminal_B.mean(),
            "log_pf_mean": log_pf_B.mean(),
            "var_log_reward_minus_log_q": within_group_variance(gap_B, rollouts.problem_index_B),
            "completion_length_mean": rollouts.action_mask_NT.sum(1).float().mean(),
        }
        for source in ("on_policy", "tempered", "replay", "reference"):
            statistics[f"share_{source}"] = rollouts.sources.count(source) / rollouts.num_trajectories
        fresh_B = torch.tensor([source == "on_policy" for source in rollouts.sources], device=log_pf_B.device)
        if rollouts.correct_B is not None and bool(fresh_B.any()):
            statistics["solve_rate_on_policy"] = rollouts.correct_B[fresh_B].float().mean()
        if scores.entropy_NT1 is not None:
            positions_NT1 = scores.stop_mask_NT1.clone()
            positions_NT1[:, :-1] |= rollouts.action_mask_NT
            entropy = scores.entropy_NT1.detach()[positions_NT1]
            statistics["entropy_mean"] = entropy.mean()
        if self.buffer is not None:
            statistics["buffer_size"] = float(len(self.buffer))
        return statistics

    def extra_state(self) -> dict[str, Any]:
        """Rollout counter and replay buffer."""
        state: dict[str, Any] = {"num_rollout_batches": self.num_rollout_batches}
        if self.buffer is not None:
            state["buffer"] = self.buffer.state_dict()
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the rollout counter and the replay buffer."""
        self.num_rollout_batches = int(state["num_rollout_batches"])
        if self.buffer is not None and "buffer" in state:
            self.buffer.load_state_dict(state["buffer"])
