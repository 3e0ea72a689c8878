"""A step in which every sampled completion is empty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.objectives.detailed_balance import ModifiedDetailedBalance
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.rewards.function import FunctionReward

REWARD = f"{__file__.replace('test_empty_completions', 'conftest')}:hashed_reward"


@pytest.mark.parametrize(
    "objective", [ModifiedSubTB(level="step"), ModifiedSubTB(), ModifiedDetailedBalance()], ids=["step", "token", "db"]
)
def test_batch_of_empty_completions_trains_nothing_and_does_not_crash(make_policy, make_trainer, letters, objective):
    policy = make_policy()
    module = GFlowNetModule(policy, objective, FunctionReward(REWARD, prefixes=True), num_samples=2)
    sample = policy.sample

    def empty(*arguments: Any, **how: Any) -> Any:
        drawn = sample(*arguments, **how)
        return replace(drawn, action_mask_NT=torch.zeros_like(drawn.action_mask_NT))

    policy.sample = empty
    trainer = make_trainer(2)
    trainer.fit(module, DataLoader(letters * 2, batch_size=3, collate_fn=list))
    assert trainer.global_step == 2
    assert float(trainer.callback_metrics["train/loss"]) == 0.0
