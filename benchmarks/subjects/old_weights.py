"""Sampling by old weights within the step: what reproducible asynchronous rollouts give, without actors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.rollout_source import InStep
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import Problem


class OldWeights(InStep):
    """Samples with the weights of ``staleness`` optimiser steps ago, or with the first ones.

    Args:
        staleness: optimiser steps.
    """

    def __init__(self, staleness: int) -> None:
        super().__init__()
        self.staleness = staleness
        self.kept: dict[int, Mapping[str, Tensor]] = {}

    def next(self, module: RolloutModule, problems: list[Problem]) -> tuple[RolloutBatch, dict[str, float]]:
        """Sample with the old weights, then go on with the present ones."""
        policy, now = module.policy, module.global_step
        assert isinstance(policy, nn.Module)
        present = self.kept[now] = {name: value.clone() for name, value in policy.state_dict().items()}
        oldest = max(0, now - self.staleness)
        self.kept = {step: state for step, state in self.kept.items() if step >= oldest}
        with torch.no_grad():
            policy.load_state_dict(self.kept[oldest])
            drawn = super().next(module, problems)
            policy.load_state_dict(present)
        return drawn
