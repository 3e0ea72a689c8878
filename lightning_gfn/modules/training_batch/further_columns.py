"""Constant columns of a rollout batch that no score of the policy holds: classes, reference, weights of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_gfn.modules.training_batch.class_column import class_column
from lightning_gfn.modules.training_batch.columns import reference_columns, trajectory_log_prob
from lightning_gfn.modules.training_batch.loss_weights import entropy_of_actions
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.types import Rollouts, Scores

if TYPE_CHECKING:
    from lightning_gfn.modules.rollout import RolloutModule


def further_columns(
    module: RolloutModule,
    rollouts: Rollouts,
    layout: JoinedLayout,
    scores: Scores,
    head_columns: dict[str, Tensor],
    reference: Scores | None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Constant columns that no score of the policy holds; metrics. Weights of the loss are adapted then."""
    columns = {f"old_{name}": column.detach() for name, column in head_columns.items() if name == "value_BT1"}
    statistics: dict[str, float] = {}
    if module.solution_classes is not None:
        columns["class_B"] = class_column(module.solution_classes, rollouts)
    if "entropy_coefficient" in module.weights.values:
        sums = entropy_of_actions(scores, layout, module.policy.max_new_tokens)
        total, count = module.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        statistics["entropy_coefficient"] = module.weights.use("entropy_coefficient", total / max(1.0, count))
        columns["entropy_coefficient"] = torch.tensor(statistics["entropy_coefficient"], device=module.device)
    if reference is None:
        return columns, statistics
    columns |= reference_columns(reference, rollouts, layout)
    log_ratio_B = trajectory_log_prob(scores, rollouts).detach() - columns["ref_log_pf_B"]
    kl = float(module.trainer.strategy.reduce(log_ratio_B.mean(), reduce_op="mean"))
    statistics["reference_kl"] = kl
    if "kl_coefficient" in module.weights.values:
        statistics["kl_coefficient"] = module.weights.use("kl_coefficient", kl)
        columns["kl_coefficient"] = torch.tensor(statistics["kl_coefficient"], device=module.device)
    return columns, statistics
