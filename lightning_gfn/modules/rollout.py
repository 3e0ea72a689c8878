"""The training step that all rollout methods share: sample, reward, score, one loss; or several on one batch."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gfn.interfaces import Buffer, Objective, Policy, Reward
from lightning_gfn.modules.policy_module import PolicyModule
from lightning_gfn.modules.rollout_source import FromActors, InStep, RolloutSource, old_is_sampler
from lightning_gfn.modules.settings import (
    EntropyControl,
    EvaluationSettings,
    KLControl,
    OptimizerSettings,
    UpdateSettings,
)
from lightning_gfn.modules.training_batch.columns import (
    REFERENCE_COLUMNS,
    StepBoundaries,
    behaviour_columns,
    check_columns,
    check_groups,
    check_reward_template,
    check_sources,
    constant_columns,
    joined_columns,
    live_columns,
    sampling_mismatch,
    step_separator,
    warn_of_separate_starts,
)
from lightning_gfn.modules.training_batch.fit_checks import check_updates, try_reward
from lightning_gfn.modules.training_batch.further_columns import further_columns
from lightning_gfn.modules.training_batch.idle_rollouts import idle_rollouts, nothing_of
from lightning_gfn.modules.training_batch.loss_weights import LossWeights
from lightning_gfn.modules.training_batch.problem_selection import (
    ProblemSelection,
    check_selection,
    chosen_problems,
    selection_statistics,
)
from lightning_gfn.modules.training_batch.rollout_statistics import rollout_statistics, score_statistics
from lightning_gfn.modules.training_batch.rollout_window import RolloutWindow
from lightning_gfn.modules.training_batch.seeded_buffer import fill_buffer
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.functional.importance import BEHAVIOUR_COLUMNS
from lightning_gfn.objectives.regimes import GFLOWNET, POLICY_GRADIENT, check_regime
from lightning_gfn.policies.heads import Head
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings
from lightning_gfn.rollouts.batching import to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings, check_resampling
from lightning_gfn.rollouts.evaluating.sample_rewards import with_sample_rewards
from lightning_gfn.rollouts.make_sampler import make_sampler
from lightning_gfn.rollouts.proofs.proving import Proving, check_reward_prompt
from lightning_gfn.rollouts.rewarded_sampler import RewardedSampler
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import EvalRecord, LogReward, LossOutput, Problem, Rollouts, Scores, Source


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
        behaviour: shares of on-policy, tempered, replayed and reference trajectories; on-policy alone if None.
        buffer: replay buffer; needed if the behaviour replays.
        seed_buffer: put the reference solutions of all training problems into the buffer before the first step.
        head: log Z or flow head, value head or critic; needed by objectives that learn one (TB, SubTB, PPO).
        optimizer: AdamW settings; ``head_lr`` is the head's own learning rate.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the sampling uniforms and of the minibatches.
        log_entropy: also compute the policy's entropy in the scoring pass.
        method: the name under which results are compared; the class of the objective if None.
        updates: how often a rollout batch is used; once if None.
        kl: weight of the KL penalty towards the policy at the start of the stage; needed by objectives that have one.
        entropy: weight of the entropy bonus, fixed or steered to a target; needed by objectives that have one.
        solution_classes: which completions of a problem are solved the same way; needed by objectives that ask.
        resample: draw groups of equal rewards again (DAPO's dynamic sampling); never if None.
        proving: environment and prompt, where problems are theorems.
        asynchronous: sample in Ray actors while the trainer makes its steps; None samples within the step.
        selection: sample those problems of each training batch whose learned log Z says that they are neither easy nor
            hard; all of them if None.
        separator: what ends a reasoning step, for objectives of level step; the reward's if None, else a line break.

    Raises:
        ValueError: objective, reward, head and settings do not go together.
    """

    served: ClassVar[frozenset[str]] = frozenset({GFLOWNET, POLICY_GRADIENT})
    """The modules whose objectives this one takes."""

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        reward: Reward,
        *,
        num_samples: int = 8,
        behaviour: BehaviourMix | None = None,
        buffer: Buffer | None = None,
        seed_buffer: bool = False,
        head: Head | None = None,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        seed: int = 0,
        log_entropy: bool = True,
        method: str | None = None,
        updates: UpdateSettings | None = None,
        kl: KLControl | None = None,
        entropy: EntropyControl | None = None,
        solution_classes: SolutionClasses | None = None,
        resample: ResampleSettings | None = None,
        proving: Proving | None = None,
        asynchronous: AsynchronousSettings | None = None,
        selection: ProblemSelection | None = None,
        separator: str | None = None,
    ) -> None:
        name = method if method is not None else type(objective).__name__
        super().__init__(policy, optimizer=optimizer, evaluation=evaluation, method=name, proving=proving)
        check_regime(objective, self.served, type(self).__name__)
        self.weights = LossWeights(kl, entropy)
        given = REFERENCE_COLUMNS | BEHAVIOUR_COLUMNS | self.weights.values.keys()
        given |= {"class_B"} if solution_classes is not None else set()
        check_columns(objective, reward, head.provides if head is not None else None, given=given)
        warn_of_separate_starts(objective, policy)
        self.weights.check(objective)
        check_groups(objective, num_samples, classes=solution_classes is not None)
        if proving is not None:
            check_reward_prompt(proving, reward)
        if seed_buffer and buffer is None:
            raise ValueError("model.seed_buffer is true, but there is no buffer: set model.buffer")
        mix = behaviour if behaviour is not None else BehaviourMix()
        check_sources(objective, mix, buffer)
        if resample is not None:
            check_resampling(objective, mix)
        if selection is not None:
            check_selection(objective, head, proofs=proving is not None, asynchronous=asynchronous is not None)
        self.objective = objective
        self.reward = reward
        self.selection, self.estimates = selection, dict[str, float]()
        self.head = head
        self.buffer, self.seed_buffer = buffer, seed_buffer
        self.updates = updates if updates is not None else UpdateSettings()
        self.solution_classes = solution_classes
        self.sampler = make_sampler(proving, num_samples=num_samples, behaviour=mix, seed=seed)
        self.collector = RewardedSampler(self.sampler, reward, "log_reward_BT1" in objective.requires, resample)
        self.with_entropy = log_entropy or "entropy_BT1" in objective.requires
        self.boundaries = StepBoundaries(policy, step_separator(separator, objective, reward))
        self.source: RolloutSource = FromActors(asynchronous) if asynchronous is not None else InStep()
        self.old_is_sampler = old_is_sampler(objective, self.served, asynchronous)
        self.num_rollout_batches = 0
        self.window: RolloutWindow | None = None
        self.latest_rollouts: RolloutBatch | None = None
        self.restored_windows: list[RolloutWindow] = []

    reward_word: ClassVar[str] = "log reward"
    """What printed samples call the value of a trajectory."""

    @property
    def needs_reference(self) -> bool:
        """True if the reward or the objective compares with the reference."""
        compares = self.reward.needs_reference or bool(self.objective.requires & REFERENCE_COLUMNS)
        return super().needs_reference or compares

    @property
    def max_steps(self) -> int:
        """The most steps that a trajectory may have."""
        return self.proving.max_steps if self.proving is not None else 1

    @property
    def asked_sources(self) -> frozenset[Source]:
        """Where trajectories are asked to come from."""
        mix = self.sampler.behaviour
        reference: set[Source] = {"reference"} if mix.always_reference else set()
        return frozenset({source for source, share in mix.shares.items() if share > 0.0} | reference)

    @property
    def updates_per_rollout(self) -> int:
        """How often the data loader must hand out each batch."""
        return self.updates.num_updates

    @property
    def whole_groups(self) -> bool:
        """True if minibatches must keep the trajectories of a problem together."""
        return "group_B" in self.objective.requires

    def setup(self, stage: str) -> None:
        """Refuse other prompts, rewards that fail, and training batches that the updates cannot be made of."""
        super().setup(stage)
        check_reward_template(self.reward, getattr(self.trainer, "datamodule", None))
        if stage == "fit":
            self.source.start(self)
            try_reward(self)
            if self.updates_per_rollout > 1:
                check_updates(self)

    def with_rewards(self, records: list[EvalRecord]) -> list[EvalRecord]:
        """The records with the log rewards of their samples, if the reward is a log weight and no labels judge them."""
        unlabelled = [record for record in records if record.problem.labels is None]
        if not self.reward.is_log_weight or not unlabelled:
            return records
        max_rows = self.evaluation.max_rows
        found = with_sample_rewards(self.policy, self.reward, unlabelled, max_rows=max_rows, device=self.device)
        weighed = iter(found)
        return [next(weighed) if record.problem.labels is None else record for record in records]

    def check_shards(self) -> None:
        """See ``TrainedModule.check_shards``."""
        super().check_shards()
        if isinstance(self.source, FromActors):
            raise ValueError(
                "model.asynchronous sends whole weights to actors at times when trainer.strategy fsdp2 holds parts of "
                "them: set model.asynchronous to null, or trainer.strategy to ddp"
            )

    def on_fit_start(self) -> None:
        """Choose this rank's window among those of the checkpoint; put reference solutions into an empty buffer.

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
        if self.seed_buffer and self.buffer is not None and not len(self.buffer) and not self.global_step:
            fill_buffer(self, self.buffer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Let samplers go on with the new weights."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.source.advance(self)

    def teardown(self, stage: str) -> None:
        """End the samplers and the workers of the environment."""
        self.source.close()
        super().teardown(stage)

    def environment_metrics(self) -> dict[str, float]:
        """What the environments of this process and of its samplers have done since the last call."""
        gained = {f"env_{name}": value for name, value in self.source.environment_gain().items()}
        return {name: value + gained.get(name, 0.0) for name, value in super().environment_metrics().items()}

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        """The objective's loss on one minibatch of a rollout batch, which is sampled first where none is held."""
        scored, counts = None, {"generated_tokens": 0, "reward_calls": 0}
        if self.selection is not None:
            batch = chosen_problems(self, batch)
        if self.window is None:
            self.window, scored, counts = self.open_window(batch)
        part = self.window.minibatch(batch, self.updates, seed=self.sampler.seed, whole_groups=self.whole_groups)
        of_window = self.window.statistics
        self.window.num_done += 1
        if self.window.num_done == self.updates_per_rollout:
            self.window = None
        if part is None:
            metrics = {**of_window, "minibatch_trajectories": 0.0}
            self.log_dict({f"train/{name}": value for name, value in metrics.items()}, batch_size=1)
            return {"loss": self.empty_loss(), **counts, "gradient_tokens": 0}
        rollouts, layout, constants = part
        scores, head_columns = scored if scored is not None else self.score(rollouts, layout)
        output = self.objective({**constants, **live_columns(rollouts, layout, scores), **head_columns})
        log_reward_B = constants["log_reward_B"]
        statistics = {
            **rollout_statistics(rollouts, log_reward_B, self.policy.max_new_tokens),
            **score_statistics(rollouts, scores, log_reward_B),
            **({"buffer_size": float(len(self.buffer))} if self.buffer is not None else {}),
            "minibatch_trajectories": float(rollouts.num_trajectories),
            **of_window,
        }
        self.log_output(output, **statistics)
        tokens = int(rollouts.action_mask_NT.sum() + rollouts.context_mask_NC.sum())
        return {"loss": self.window_loss(output), **counts, "gradient_tokens": tokens}

    def score(self, rollouts: Rollouts, layout: JoinedLayout) -> tuple[Scores, dict[str, Tensor]]:
        """The policy's scores and the head's column, with gradient."""
        if self.head is None:
            return self.policy.score(rollouts.steps, entropy=self.with_entropy), {}
        head = self.head
        scores, values_N = self.policy.score_and_read(
            rollouts.steps, head.read, entropy=self.with_entropy, hidden=head.needs_hidden
        )
        return scores, joined_columns({min(head.provides): head.column(values_N, rollouts)}, layout)

    def empty_loss(self) -> Tensor:
        """See ``TrainedModule.empty_loss``; where weights are cut over processes, all of these take a pass together."""
        if self.shards is None or not isinstance(self.policy, LanguageModel):
            return super().empty_loss()
        rollouts = idle_rollouts(self.policy)
        scores, columns = self.score(rollouts, JoinedLayout(rollouts))
        zero = nothing_of([*vars(scores).values(), *columns.values()])
        return self.window_loss(LossOutput(zero, torch.zeros_like(zero)))

    def collect(self, batch: list[Problem]) -> RolloutBatch:
        """Sampled and rewarded trajectories for these problems."""
        if self.buffer is not None:
            self.buffer.rank_by(self.reward, self.global_step)
        drawn, waited = self.source.next(self, batch)
        self.log_dict({f"train/{name}": value for name, value in waited.items()}, batch_size=1)
        self.num_rollout_batches += 1
        self.latest_rollouts = drawn
        return drawn

    def open_window(
        self, batch: list[Problem]
    ) -> tuple[RolloutWindow, tuple[Scores, dict[str, Tensor]] | None, dict[str, int]]:
        """Sample and reward a rollout batch and compute its constant columns.

        Returns:
            The window; scores with gradient if they serve the only update; what sampling and rewarding cost.
        """
        number = self.num_rollout_batches
        scored = reference = None
        with self.whole_weights():
            drawn = self.collect(batch)
            rollouts, layout = drawn.rollouts, JoinedLayout(drawn.rollouts)
            if self.updates_per_rollout > 1:
                with torch.no_grad(), evaluation_mode(self):
                    scores, head_columns = self.score(rollouts, layout)
            if self.objective.requires & REFERENCE_COLUMNS:
                reference = self.policy.score(rollouts.steps, reference=True)
        if self.updates_per_rollout == 1:
            scores, head_columns = scored = self.score(rollouts, layout)
        further, statistics = further_columns(self, rollouts, layout, scores, head_columns, reference)
        if self.old_is_sampler:
            sampled = behaviour_columns(rollouts, layout)
            further |= {f"old_{name.removeprefix('behaviour_')}": column for name, column in sampled.items()}
        constants = constant_columns(
            self.objective,
            self.policy,
            rollouts,
            layout,
            scores,
            drawn.log_reward,
            self.boundaries,
            further,
            max_steps=self.max_steps,
        )
        self.remember(rollouts, drawn.log_reward)
        ids = tuple(problem.id for problem in batch)
        chosen = selection_statistics(self.estimates, drawn)
        metrics = {**statistics, **sampling_mismatch(scores, rollouts), **drawn.metrics, **chosen}
        return RolloutWindow(number, ids, rollouts, layout, constants, metrics), scored, drawn.costs

    def remember(self, rollouts: Rollouts, log_reward: LogReward) -> None:
        """Put the new trajectories of all ranks into reward and buffer of every rank, in order of rank."""
        if self.reward.learns:
            self.reward.learn(gather_all(self.reward.observations(rollouts.terms, rollouts)))
        if self.buffer is not None:
            new = to_trajectories(rollouts, log_reward, optimizer_step=self.global_step)
            self.buffer.add(gather_all(new))

    def extra_state(self) -> dict[str, Any]:
        """Rollout counter, weights of the loss, the windows of all ranks and the replay buffer."""
        state: dict[str, Any] = {"num_rollout_batches": self.num_rollout_batches, "windows": []}
        if self.window is not None:
            state["windows"] = gather_all([self.window.state_dict()])
        state |= self.weights.state_dict()
        if self.buffer is not None:
            state["buffer"] = self.buffer.state_dict()
        if learned := self.reward.state_dict():
            state["reward"] = learned
        return state

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore ``extra_state``."""
        self.num_rollout_batches = int(state["num_rollout_batches"])
        self.restored_windows = [RolloutWindow.from_state(window) for window in state["windows"]]
        self.weights.load_state_dict(state)
        if self.buffer is not None and "buffer" in state:
            self.buffer.load_state_dict(state["buffer"])
        self.reward.load_state_dict(state.get("reward", {}))
