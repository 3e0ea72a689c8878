"""On an enumerated tree the exact reward-proportional policy has zero loss and zero gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.detailed_balance import DetailedBalance, ModifiedDetailedBalance
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad

BALANCE = [
    TrajectoryBalance(),
    VarGrad(),
    DetailedBalance(),
    ModifiedDetailedBalance(),
    SubTB(lam=0.9),
    SubTB(lam=1.0, reduction="sum"),
    ModifiedSubTB(),
    ModifiedSubTB(lam=0.8, reduction="sum"),
    ModifiedSubTB(level="step"),
    ModifiedSubTB(pairs="problem"),
]


@pytest.mark.parametrize("objective", BALANCE, ids=repr)
def test_exact_policy_has_zero_loss_and_gradient(objective: Objective, tree: Any) -> None:
    loss = objective(tree.columns).loss
    assert loss.item() == pytest.approx(0.0, abs=1e-20)
    for gradient in torch.autograd.grad(loss, list(tree.leaves.values()), allow_unused=True):
        assert gradient is None or gradient.abs().max() < 1e-10


@pytest.mark.parametrize("objective", BALANCE, ids=repr)
@pytest.mark.parametrize("plant", ["reward sign", "reward of one string", "policy"])
def test_the_zero_is_lost_under_a_planted_error(objective: Objective, plant: str, tree: Any) -> None:
    columns = dict(tree.columns)
    if plant == "reward sign":
        columns |= {name: -columns[name] for name in ("log_reward_B", "log_reward_BT1")}
    elif plant == "reward of one string":
        bump = torch.zeros_like(columns["log_reward_B"])
        bump[5] = 1.0
        last_BT1 = torch.arange(4) == columns["mask_BT"].sum(1, keepdim=True)
        columns["log_reward_B"] = columns["log_reward_B"] + bump
        columns["log_reward_BT1"] = columns["log_reward_BT1"] + bump.unsqueeze(1) * last_BT1
    else:
        columns["log_pf_BT"] = columns["log_pf_BT"] * 1.1
        columns["log_pf_B"] = columns["log_pf_B"] * 1.1
    assert objective(columns).loss.item() > 1e-3


def test_log_z_one_too_large_costs_one(tree: Any) -> None:
    columns = {**tree.columns, "log_z_B": tree.columns["log_z_B"] + 1.0}
    output = TrajectoryBalance()(columns)
    assert output.loss.item() == pytest.approx(1.0, abs=1e-12)
    assert output.diagnostics["residual_mean"].item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "objective", [TrajectoryBalance(), VarGrad(), ModifiedSubTB(), ModifiedSubTB(lam=0.5)], ids=repr
)
def test_log_z_estimate_is_exact_there(objective: Objective, tree: Any) -> None:
    assert objective(tree.columns).diagnostics["log_z_estimate"].item() == pytest.approx(tree.log_z, abs=1e-9)
