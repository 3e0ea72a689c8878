"""Feedback Distillation: the same model, told what went wrong, teaches itself at the student's own prefixes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective, Policy, Reward
from lightning_gfn.modules.policy_module import PolicyModule
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.modules.training_batch.rollout_statistics import rollout_statistics
from lightning_gfn.objectives.distillation import TopKDistillation
from lightning_gfn.objectives.regimes import DISTILLATION, check_regime
from lightning_gfn.padding import pad_contexts
from lightning_gfn.prompts.math_feedback import DEFAULT_TEMPLATE, check_template, with_feedback
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.make_sampler import make_sampler
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.rewarded_sampler import RewardedSampler
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.teacher_interfaces import FeedbackSource, TeachingPolicy
from lightning_gfn.types import Feedback, Problem, Rollouts

COLUMNS = frozenset(
    {"teacher_log_p_BT1K", "teacher_log_rest_BT1", "student_log_p_BT1K", "student_log_rest_BT1", "distil_mask_BT1"}
)
"""What this module can give to an objective."""


@dataclass(frozen=True)
class TeacherSettings:
    """The teacher: the model with averaged weights and feedback in its context.

        every n-th optimiser step: teacher weights = decay · teacher weights + (1 - decay) · weights

    Args:
        decay: 1 keeps the weights of the start (OPSD), 0 takes the student's own.
        every: n, optimiser steps between two updates.
        top_k: the teacher's most probable actions that are compared; all where there are fewer.
        template: the teacher's prompt, with ``{prompt}`` and ``{feedback}``.
        max_prompt_tokens: longest prompt of the teacher; a step whose prompt with feedback is longer is left out of the
            loss and counted.
        steps: which steps of a trajectory are compared: ``all``, or the ``last``, which is the one that failed.

    Source: Feedback Distillation, arXiv:2605.30861 (decay 0.9 every 5 steps, top 25).
    """

    decay: float = 0.9
    every: int = 5
    top_k: int = 25
    template: str = DEFAULT_TEMPLATE
    max_prompt_tokens: int = 1024
    steps: Literal["all", "last"] = "all"

    def __post_init__(self) -> None:
        check_template(self.template)
        if not 0.0 <= self.decay <= 1.0:
            raise ValueError(f"teacher.decay is {self.decay}, expected 0 <= decay <= 1")
        if self.steps not in ("all", "last"):
            raise ValueError(f"teacher.steps is {self.steps!r}, expected all or last")
        for name, value in (
            ("every", self.every),
            ("top_k", self.top_k),
            ("max_prompt_tokens", self.max_prompt_tokens),
        ):
            if value < 1:
                raise ValueError(f"teacher.{name} is {value}, expected at least 1")


class DistillationModule(PolicyModule):
    """Moves the policy towards what it would have done, had it known the feedback.

        y ~ q(· | x),   loss = Σ_t D( p(· | x, feedback(y), y_<t), q(· | x, y_<t) )      no gradient through y and p

    A trajectory without feedback does not enter the loss. The teacher can be no better than the model's use of
    feedback: an instructed model reads it, a small model from scratch has never seen any. Train such a model first on
    ``datamodules.feedback_conditioned.FeedbackConditioned`` with the same template.

    Args:
        policy: the language model; it is student and teacher.
        feedback: what the teacher gets to read.
        reward: checks the answers, for the feedback and the log; it does not enter the loss.
        objective: a divergence on the teacher's most probable actions.
        teacher: averaging, number of actions and prompt of the teacher.
        num_samples: trajectories per problem and step; sibling feedback needs several.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the sampling uniforms.
        method: the name under which results are compared.
        proving: environment and prompt, where problems are theorems.

    Source: Feedback Distillation, arXiv:2605.30861; SDPO, arXiv:2601.20802; OPSD, arXiv:2601.18734.
    """

    def __init__(
        self,
        policy: Policy,
        feedback: FeedbackSource,
        reward: Reward,
        objective: Objective | None = None,
        *,
        teacher: TeacherSettings | None = None,
        num_samples: int = 1,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        seed: int = 0,
        method: str = "feedback_distillation",
        proving: Proving | None = None,
    ) -> None:
        super().__init__(policy, optimizer=optimizer, evaluation=evaluation, method=method, proving=proving)
        self.objective = objective if objective is not None else TopKDistillation()
        check_regime(self.objective, {DISTILLATION}, type(self).__name__)
        missing = self.objective.requires - COLUMNS
        if missing:
            raise ValueError(
                f"objective {type(self.objective).__name__} needs {sorted(missing)}, which distillation does not give: "
                "use lightning_gfn.objectives.distillation.TopKDistillation"
            )
        if not isinstance(policy, TeachingPolicy):
            raise ValueError(f"model.policy {type(policy).__name__} cannot teach; use CausalLM")
        self.feedback = feedback
        self.reward = reward
        self.teacher = teacher if teacher is not None else TeacherSettings()
        on_policy = BehaviourMix(on_policy=1.0, tempered=0.0, replay=0.0, reference=0.0)
        self.sampler = make_sampler(proving, num_samples=num_samples, behaviour=on_policy, seed=seed)
        self.collector = RewardedSampler(self.sampler, reward, prefixes=False)
        self.num_rollout_batches = 0
        self.teacher_updated_at = 0
        self.latest_rollouts: RolloutBatch | None = None

    # ---------------------------------------------------------------- building and state

    @property
    def student(self) -> TeachingPolicy:
        """The policy, which is also the teacher."""
        assert isinstance(self.policy, TeachingPolicy)
        return self.policy

    @property
    def needs_reference(self) -> bool:
        """True if the frozen reference writes feedback or the reward scores under it."""
        return self.feedback.needs_reference or self.reward.needs_reference

    def configure_model(self) -> None:
        """Build the policy and, from its weights at the start, the teacher.

        Raises:
            ValueError: if the feedback source cannot work, or the teacher's prompt does not fit the model.
        """
        if self.is_built:
            super().configure_model()
            return
        if self.trainer.state.fn == "fit":
            self.feedback.setup()
        super().configure_model()
        limit, asked = self.student.num_positions, self.teacher.max_prompt_tokens + self.policy.max_new_tokens
        if limit is not None and asked > limit:
            raise ValueError(
                f"teacher.max_prompt_tokens={self.teacher.max_prompt_tokens} + "
                f"max_new_tokens={self.policy.max_new_tokens} exceed the {limit} positions of the model: lower them, "
                "or train a model with more positions"
            )
        self.student.start_teacher()

    def extra_state(self) -> dict[str, Any]:
        """Counters and the state of the feedback source; the teacher's weights are among the policy's."""
        return {
            "num_rollout_batches": self.num_rollout_batches,
            "teacher_updated_at": self.teacher_updated_at,
            "feedback": self.feedback.state_dict(),
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restore ``extra_state``."""
        self.num_rollout_batches = int(state["num_rollout_batches"])
        self.teacher_updated_at = int(state["teacher_updated_at"])
        self.feedback.load_state_dict(state["feedback"])

    # ---------------------------------------------------------------- training

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        """Sample, ask for feedback, and compare teacher and student at every prefix."""
        if self.global_step - self.teacher_updated_at >= self.teacher.every:
            self.student.update_teacher(self.teacher.decay)
            self.teacher_updated_at = self.global_step
        drawn, feedback = self.attempts(batch)
        rollouts = drawn.rollouts
        contexts, num_too_long = self.teacher_contexts(rollouts, feedback)
        columns, counts = self.compare(rollouts, contexts)
        output = self.objective(columns)
        self.log_output(
            output,
            **rollout_statistics(rollouts, drawn.log_reward.terminal_B, self.policy.max_new_tokens),
            with_feedback=len(contexts) / len(rollouts.trajectory_index_N),
            feedback_too_long=float(num_too_long),
            teacher_tokens=float(counts["teacher_tokens"]),
            **{f"feedback_{name}": float(value) for name, value in feedback.counts.items()},
            **drawn.metrics,
        )
        return {
            "loss": self.window_loss(output),
            **drawn.costs,
            "generated_tokens": drawn.generated_tokens + feedback.counts.get("generated_tokens", 0),
            "gradient_tokens": counts["gradient_tokens"],
        }

    def attempts(self, batch: list[Problem]) -> tuple[RolloutBatch, Feedback]:
        """Trajectories for these problems, and what the teacher gets to read about them."""
        with self.whole_weights():
            drawn = self.collector.collect(
                self.policy,
                batch,
                rollout_step=self.num_rollout_batches,
                optimizer_step=self.global_step,
                buffer=None,
                device=self.device,
            )
            feedback = self.feedback.give(drawn.rollouts, self.policy, range(drawn.rollouts.num_trajectories))
        self.num_rollout_batches += 1
        self.latest_rollouts = drawn
        return drawn, feedback

    def teacher_contexts(self, rollouts: Rollouts, feedback: Feedback) -> tuple[dict[int, list[int]], int]:
        """The teacher's prompts by step (a row of the rollouts), and how many were too long.

        Each step's own prompt is shown with the feedback on its whole trajectory.
        """
        trajectory_N = rollouts.trajectory_index_N.tolist()
        last = {b: n for n, b in enumerate(trajectory_N)}
        first = {b: n for n, b in reversed(list(enumerate(trajectory_N)))}
        encoded = {}
        for n, b in enumerate(trajectory_N):
            text = feedback.texts[b]
            if text is not None and (self.teacher.steps == "all" or n == last[b]):
                prompt = with_feedback(self.teacher.template, self.step_prompt(rollouts, b, n - first[b]), text)
                encoded[n] = self.student.encode_context(prompt)
        fitting = {n: ids for n, ids in encoded.items() if len(ids) <= self.teacher.max_prompt_tokens}
        return fitting, len(encoded) - len(fitting)

    def step_prompt(self, rollouts: Rollouts, trajectory: int, step: int) -> str:
        """What the student read at a step of a trajectory."""
        episode = rollouts.episodes[trajectory] if rollouts.episodes is not None else None
        if self.proving is None or episode is None:
            return rollouts.problem_of(trajectory).prompt
        return self.proving.proof_prompt(episode.states[step], episode.tactics[:step])

    def compare(self, rollouts: Rollouts, contexts: dict[int, list[int]]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Columns of the trajectories with feedback, and the tokens of both passes.

        The prefixes of a trajectory are those of its steps one after the other. Without any feedback the first step
        passes through under an empty mask: every rank of a parallel run must touch the same parameters.
        """
        chosen = sorted(contexts) if contexts else [0]
        index = torch.tensor(chosen, device=rollouts.action_ids_NT.device)
        seen = told = rollouts.steps.select(index)
        if contexts:
            context_ids_NC, context_mask_NC = pad_contexts([contexts[b] for b in chosen], index.device)
            told = replace(seen, context_ids_NC=context_ids_NC, context_mask_NC=context_mask_NC)
        with self.whole_weights():
            teacher = self.student.teacher_actions(told, top_k=self.teacher.top_k)
        student = self.student.candidate_scores(seen, teacher.candidates_NT1K)
        columns = {
            "teacher_log_p_BT1K": teacher.log_p_NT1K,
            "teacher_log_rest_BT1": teacher.log_rest_NT1,
            "student_log_p_BT1K": student.log_p_NT1K,
            "student_log_rest_BT1": student.log_rest_NT1,
            "distil_mask_BT1": teacher.mask_NT1 if contexts else torch.zeros_like(teacher.mask_NT1),
        }
        num_actions = int(seen.action_mask_NT.sum())
        columns = by_trajectory(columns, rollouts.trajectory_index_N[index])
        return columns, {
            "teacher_tokens": num_actions + int(told.context_mask_NC.sum()),
            "gradient_tokens": num_actions + int(seen.context_mask_NC.sum()),
        }


def by_trajectory(columns: dict[str, Tensor], trajectory_N: Tensor) -> dict[str, Tensor]:
    """Columns of N steps as columns of B trajectories, the T + 1 prefixes of each step after those of the one before.

    Args:
        columns: (N, T + 1, …).
        trajectory_N: int64, ascending, the trajectory of each step.

    Returns:
        (B, S · (T + 1), …) with at most S steps a trajectory; 0 or False where a trajectory has fewer.
    """
    _, row_N, count_B = torch.unique_consecutive(trajectory_N, return_inverse=True, return_counts=True)
    step_N = torch.arange(len(row_N), device=row_N.device) - (count_B.cumsum(0) - count_B)[row_N]
    shape = (len(count_B), int(count_B.max()))
    return {
        name: values.new_zeros(*shape, *values.shape[1:]).index_put((row_N, step_N), values).flatten(1, 2)
        for name, values in columns.items()
    }
