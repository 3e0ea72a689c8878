"""FlowRL in the rollout module: several updates on a rollout batch, the head, and noise apart from the generators."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings, UpdateSettings
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.objectives.gflowrl import GFlowRL
from lightning_gfn.policies.heads import LogZHead, LogZScalar
from lightning_gfn.rewards.function import FunctionReward

REWARD = f"{__file__.replace('test_flowrl_steps', 'conftest')}:hashed_reward"


def train(make_policy, make_trainer, letters, objective, head=None, num_updates=2, seed=0):
    """Four updates; the diagnostics of each, and the module."""
    module = GFlowNetModule(
        make_policy(), objective, FunctionReward(function=REWARD), num_samples=4, head=head,
        optimizer=OptimizerSettings(lr=1e-2), updates=UpdateSettings(num_epochs=num_updates),
    )  # fmt: skip
    logged = []
    log_output = module.log_output
    module.log_output = lambda output, **values: logged.append(output.diagnostics) or log_output(output, **values)
    module.on_train_start = lambda: torch.manual_seed(seed)  # after the weights were drawn
    make_trainer(4).fit(module, DataLoader(letters * 4, batch_size=3, collate_fn=list))
    return module, logged


@pytest.mark.parametrize(
    ("objective", "head"),
    [(FlowRL(), LogZHead), (FlowRL(), LogZScalar), (FlowRL(log_z="vargrad"), None), (FlowRL(log_z="noise"), None),
     (GFlowRL(), None), (GFlowRL(log_z="learned"), LogZHead)],
    ids=repr,
)  # fmt: skip
def test_the_first_update_is_on_policy_and_the_second_is_not(make_policy, make_trainer, letters, objective, head):
    module, logged = train(make_policy, make_trainer, letters, objective, head() if head is not None else None)
    assert [d["ratio_mean"].item() == pytest.approx(1.0, abs=1e-5) for d in logged] == [True, False, True, False]
    assert all(math.isfinite(value) for d in logged for value in d.values())
    if head is not None:
        assert all(p.abs().sum() > 0 for p in module.head.parameters() if p.ndim < 2), "log Z starts at 0 and learns"
    if objective.log_z == "noise":
        assert logged[0]["log_z_mean"] == logged[1]["log_z_mean"] != logged[2]["log_z_mean"]


@pytest.mark.parametrize("log_z", ["noise", "group_mean"])
def test_runs_do_not_depend_on_the_global_generator(make_policy, make_trainer, letters, log_z):
    one, other = (
        train(make_policy, make_trainer, letters, FlowRL(log_z=log_z), seed=seed)[0].state_dict() for seed in (0, 1)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_learned_log_z_needs_a_head_and_the_others_refuse_one(make_policy):
    with pytest.raises(ValueError, match="FlowRL needs log_z_B: set model.head"):
        GFlowNetModule(make_policy(), FlowRL(), FunctionReward(function=REWARD))
    with pytest.raises(ValueError, match="does not read .*log_z_B.*remove model.head"):
        GFlowNetModule(make_policy(), GFlowRL(), FunctionReward(function=REWARD), head=LogZHead())
