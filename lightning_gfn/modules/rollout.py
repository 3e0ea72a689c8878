"""The training step that all rollout methods share: sample, reward, score, one loss; or several on one batch."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from lightning_gfn.interfaces import Buffer, Objective, Policy, Reward
from lightning_gfn.modules.columns import (
    REFERENCE_COLUMNS,
    StepBoundaries,
    check_columns,
    constant_columns,
    joined_columns,
    live_columns,
    reference_columns,
    sampling_mismatch,
    trajectory_log_prob,
)
from lightning_gfn.modules.policy_module import PolicyModule
from lightning_gfn.modules.rollout_window import RolloutWindow
from lightning_gfn.modules.settings import EvaluationSettings, KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.policies.heads import Head
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode
from lightning_gfn.rollouts.batching import to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings, check_resampling
from lightning_gfn.rollouts.make_sampler import make_sampler
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.rewarded_sampler import RewardedSampler
from lightning_gfn.types import LogReward, Problem, Rollouts, Scores, Source


def within_group_variance(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Mean over trajectories of the squared deviation from their group's mean, a scalar."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    count_P = torch.bincount(index_B).to(values_B.dtype)
    mean_P = torch.zeros_like(count_P).index_add(0, index_B, values_B) / count_P
    return (values_B - mean_P[index_B]).square().mean()


class RolloutModule(PolicyModule):
    """Trains a policy on trajectories that it samples; subclasses fix where trajectories may come from.

    With several updates on a rollout batch, the batch is held as a window (part of the checkpoint), each training batch
    uses one minibatch of it, and the log-probabilities of the policy that sampled are computed once, without dropout
    and gradient. With one update they are the present ones, detached: nothing is scored twice.

    Args:
        policy: the language model.
        objective: any objective whose columns the reward and the head give.
        reward: turns trajectories into log rewards.
        num_samples: trajectories per problem and step.
        behaviour: where trajectories come from.
        buffer: replay buffer; needed if the behaviour replays.
        head: log Z, flow or value head; needed by objectives that learn one.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the sampling uniforms and of the minibatches.
        log_entropy: also compute the policy's entropy in the scoring pass.
        method: the name under which results are compared; the class of the objective if None.
        updates: how often a rollout batch is used; once if None.
        kl: weight of the KL penalty; needed by objectives that have one.
        resample: draw groups of equal rewards again; never if None.
        proving: environment and prompt, where problems are theorems.
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
        updates: UpdateSettings | None = None,
        kl: KLControl | None = None,
        resample: ResampleSettings | None = None,
        proving: Proving | None = None,
    ) -> None:
        name = method if method is not None else type(objective).__name__
        super().__init__(policy, optimizer=optimizer, evaluation=evaluation, method=name, proving=proving)
        given = REFERENCE_COLUMNS if kl is None else REFERENCE_COLUMNS | {"kl_coefficient"}
        check_columns(objective, reward, head.provides if head is not None else None, given=given)
        if kl is not None and "kl_coefficient" not in objective.requires:
            raise ValueError(
                f"objective {type(objective).__name__} has no KL penalty: set objective.kl or remove model.kl"
            )
        if "group_B" in objective.requires and num_samples < 2:
            raise ValueError(
                f"objective {type(objective).__name__} compares trajectories of one problem: "
                "set model.num_samples to 2 or more"
            )
        if resample is not None:
            check_resampling(objective, behaviour)
        self.objective = objective
        self.reward = reward
        self.head = head
        self.buffer = buffer
        self.updates = updates if updates is not None else UpdateSettings()
        self.kl = kl
        self.kl_coefficient = kl.coefficient if kl is not None else 0.0
        self.sampler = make_sampler(proving, num_samples=num_samples, behaviour=behaviour, seed=seed)
        self.collector = RewardedSampler(self.sampler, reward, "log_reward_BT1" in objective.requires, resample)
        self.with_entropy = log_entropy or "entropy_BT1" in objective.requires
        self.boundaries = StepBoundaries(policy)
        self.num_rollout_batches = 0
        self.window: RolloutWindow | None = None
        self.restored_windows: list[RolloutWindow] = []

    @property
    def needs_reference(self) -> bool:
        """True if the reward or the objective compares with the reference."""
        return self.reward.needs_reference or bool(self.objective.requires & REFERENCE_COLUMNS)

    @property
    def max_steps(self) -> int:
        """The most steps that a trajectory may have."""
        return self.proving.max_steps if self.proving is not None else 1

    @property
    def updates_per_rollout(self) -> int:
        """How often the data loader must hand out each batch."""
        return self.updates.num_updates

    def setup(self, stage: str) -> None:
        """Refuse an accumulation window that would end in the middle of a rollout batch."""
        window, updates = self.trainer.accumulate_grad_batches, self.updates_per_rollout
        if stage == "fit" and updates > 1 and updates % window:
            raise ValueError(
                f"each rollout batch makes {updates} training batches, which trainer.accumulate_grad_batches={window} "
                "does not divide: change it, updates.num_minibatches or updates.num_epochs"
            )

    def on_fit_start(self) -> None:
        """Choose this rank's window among those of the checkpoint.

        Raises:
            ValueError: if the number of processes changed in the middle of a window.
        """
        restored, self.restored_windows = self.restored_windows, []
        if restored and len(restored) != self.trainer.world_size:
            raise ValueError(
                f"the checkpoint holds the rollout windows of {len(restored)} processes, {self.trainer.world_size} are "
                "running: resume on the same number of devices"
            )
        if restored:
            self.window = restored[self.global_rank].to(self.device)

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        """The objective's loss on one minibatch of a rollout batch, which is sampled first where none is held."""
        scored, counts = None, {"generated_tokens": 0, "reward_calls": 0}
        if self.window is None:
            self.window, scored, counts = self.open_window(batch)
        rollouts, constants = self.window.minibatch(
            batch, self.updates, seed=self.sampler.seed, whole_groups="group_B" in self.objective.requires
        )
        scores, head_columns = scored if scored is not None else self.score(rollouts)
        output = self.objective({**constants, **live_columns(rollouts, scores), **head_columns})
        statistics = {**self.rollout_statistics(rollouts, scores, constants), **self.window.statistics}
        self.log_output(output, **statistics)
        self.window.num_done += 1
        if self.window.num_done == self.updates_per_rollout:
            self.window = None
        tokens = int(rollouts.action_mask_NT.sum() + rollouts.context_mask_NC.sum())
        return {"loss": self.window_loss(output), **counts, "gradient_tokens": tokens}

    def score(self, rollouts: Rollouts) -> tuple[Scores, dict[str, Tensor]]:
        """The policy's scores and the head's column, with gradient."""
        scores = self.policy.score(
            rollouts.context_ids_NC,
            rollouts.context_mask_NC,
            rollouts.action_ids_NT,
            rollouts.action_mask_NT,
            entropy=self.with_entropy,
            hidden=self.head is not None and self.head.needs_hidden,
        )
        head = {min(self.head.provides): self.head(scores, rollouts)} if self.head is not None else {}
        return scores, joined_columns(head, rollouts)

    def open_window(
        self, batch: list[Problem]
    ) -> tuple[RolloutWindow, tuple[Scores, dict[str, Tensor]] | None, dict[str, int]]:
        """Sample and reward a rollout batch and compute its constant columns.

        Returns:
            The window; scores with gradient if they serve the only update; what sampling and rewarding cost.
        """
        number = self.num_rollout_batches
        drawn = self.collector.collect(
            self.policy, batch, number=number, step=self.global_step, buffer=self.buffer, device=self.device
        )
        self.num_rollout_batches += 1
        rollouts = drawn.rollouts
        if self.updates_per_rollout == 1:
            scores, head_columns = scored = self.score(rollouts)
        else:
            with torch.no_grad(), evaluation_mode(self):
                scores, head_columns = self.score(rollouts)
            scored = None
        further, statistics = self.further_columns(rollouts, scores, head_columns)
        constants = constant_columns(
            self.objective,
            self.policy,
            rollouts,
            scores,
            drawn.log_reward,
            self.boundaries,
            further,
            max_steps=self.max_steps,
        )
        self.remember(rollouts, drawn.log_reward)
        counts = {name: getattr(drawn, name) for name in ("generated_tokens", "reward_calls", "environment_steps")}
        ids = tuple(problem.id for problem in batch)
        figures = {**statistics, **sampling_mismatch(scores, rollouts), **drawn.statistics}
        return RolloutWindow(number, ids, rollouts, constants, figures), scored, counts

    def further_columns(
        self, rollouts: Rollouts, scores: Scores, head_columns: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Constant columns of the reference, the old values and the KL coefficient (which is then adapted); figures."""
        columns = {f"old_{name}": column.detach() for name, column in head_columns.items() if name == "value_BT1"}
        if not self.objective.requires & REFERENCE_COLUMNS:
            return columns, {}
        reference = self.policy.score(
            rollouts.context_ids_NC,
            rollouts.context_mask_NC,
            rollouts.action_ids_NT,
            rollouts.action_mask_NT,
            reference=True,
        )
        columns |= reference_columns(reference, rollouts)
        log_ratio_B = trajectory_log_prob(scores, rollouts).detach() - columns["ref_log_pf_B"]
        kl = float(self.trainer.strategy.reduce(log_ratio_B.mean(), reduce_op="mean"))
        if self.kl is None:
            return columns, {"reference_kl": kl}
        statistics = {"reference_kl": kl, "kl_coefficient": self.kl_coefficient}
        columns["kl_coefficient"] = torch.tensor(self.kl_coefficient, device=self.device)
        self.kl_coefficient = self.kl.adapted(self.kl_coefficient, kl)
        return columns, statistics

    def remember(self, rollouts: Rollouts, log_reward: LogReward) -> None:
        """Put the new trajectories of all ranks into the buffer of every rank, in order of rank."""
        if self.buffer is not None:
            new = to_trajectories(rollouts, log_reward, step=self.global_step)
            self.buffer.add(gather_all(new))

    def rollout_statistics(
        self, rollouts: Rollouts, scores: Scores, constants: dict[str, Tensor]
    ) -> dict[str, float | Tensor]:
        """Figures that every rollout method logs, of the trajectories of one update, from detached scores."""
        log_pf_B = trajectory_log_prob(scores, rollouts).detach()
        log_reward_B = constants["log_reward_B"]
        statistics: dict[str, float | Tensor] = {
            "log_reward_mean": log_reward_B.mean(),
            "log_pf_mean": log_pf_B.mean(),
            "var_log_reward_minus_log_q": within_group_variance(log_reward_B - log_pf_B, rollouts.problem_index_B),
            "completion_length_mean": rollouts.action_mask_NT.sum().float() / rollouts.num_trajectories,
        }
        for source in get_args(Source):
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
        """Rollout counter, KL coefficient, the windows of all ranks and the replay buffer."""
        state: dict[str, Any] = {"num_rollout_batches": self.num_rollout_batches, "windows": []}
        if self.window is not None:
            state["windows"] = gather_all([self.window.state_dict()])
        if self.kl is not None:
            state["kl_coefficient"] = self.kl_coefficient
        if self.buffer is not None:
            state["buffer"] = self.buffer.state_dict()
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore ``extra_state``."""
        self.num_rollout_batches = int(state["num_rollout_batches"])
        self.restored_windows = [RolloutWindow.from_state(window) for window in state["windows"]]
        if self.kl is not None and "kl_coefficient" in state:
            self.kl_coefficient = float(state["kl_coefficient"])
        if self.buffer is not None and "buffer" in state:
            self.buffer.load_state_dict(state["buffer"])
