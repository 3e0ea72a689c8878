"""Supervised fine-tuning on reference solutions."""

from __future__ import annotations

from typing import Any

import torch

from lightning_gfn.interfaces import Objective, Policy
from lightning_gfn.modules.policy_module import PolicyModule
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.modules.training_batch.columns import StepBoundaries, build_columns, check_columns
from lightning_gfn.objectives.likelihood import Likelihood
from lightning_gfn.objectives.regimes import SFT, check_regime
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.reference import reference_rollouts
from lightning_gfn.types import EvalRecord, LossOutput, Problem


class SFTModule(PolicyModule):
    """Maximises the likelihood of one reference solution per problem and epoch.

    Where a problem has several reference solutions, each epoch draws one of them, keyed by (seed, epoch, problem id).

    Args:
        policy: the language model.
        objective: a loss over the log-probabilities of the solutions.
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the choice among several reference solutions.
        method: the name under which results are compared.
        proving: environment and prompt, where problems are theorems.
    """

    overlong_targets = "cut"
    trains_with_dropout = True

    def __init__(
        self,
        policy: Policy,
        objective: Objective | None = None,
        *,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        seed: int = 0,
        method: str = "sft",
        proving: Proving | None = None,
    ) -> None:
        super().__init__(policy, optimizer=optimizer, evaluation=evaluation, method=method, proving=proving)
        self.objective = objective if objective is not None else Likelihood()
        check_regime(self.objective, {SFT}, type(self).__name__)
        check_columns(self.objective, None, None)
        self.seed = seed
        self.boundaries = StepBoundaries(policy)

    def solution_loss(self, problems: list[Problem], epoch: int) -> tuple[LossOutput, dict[str, int]]:
        """Loss of one reference solution per problem; counts of its tokens and of solutions cut at the maximum."""
        rollouts, num_cut = reference_rollouts(self.policy, problems, seed=self.seed, epoch=epoch, device=self.device)
        scores = self.policy.score(rollouts.steps, entropy="entropy_BT1" in self.objective.requires)
        columns = build_columns(self.objective, self.policy, rollouts, scores, None, {}, self.boundaries)
        tokens = int(rollouts.action_mask_NT.sum() + rollouts.context_mask_NC.sum())
        return self.objective(columns), {"gradient_tokens": tokens, "truncated_solutions": num_cut}

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        """One likelihood step."""
        output, counts = self.solution_loss(batch, self.current_epoch)
        cut = float(counts["truncated_solutions"])
        self.log_output(output, truncated_solutions=cut, truncated_share=cut / len(batch))
        return {"loss": self.window_loss(output), "generated_tokens": 0, "reward_calls": 0, **counts}

    def validation_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:  # type: ignore[override]
        """Log the loss of the reference solutions, where there are any, and sample."""
        solved = [problem for problem in batch if problem.solutions and problem.theorem is None]
        if solved:
            with torch.no_grad():
                output, _ = self.solution_loss(solved, 0)
            self.log("val/loss", output.loss, batch_size=max(1, int(output.weight)), on_epoch=True, sync_dist=True)
        return self.sample_records(batch)
