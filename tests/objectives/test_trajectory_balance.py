"""Trajectory balance: written loop, gradient, planted sign errors."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance, tb_loss


@pytest.fixture
def columns() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pf, z, reward = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(3))
    return {"log_pf_B": pf.requires_grad_(), "log_z_B": z.requires_grad_(), "log_reward_B": reward}


def test_written_loop_and_gradient(columns: dict[str, torch.Tensor]) -> None:
    output = tb_loss(**columns)
    pf, z, reward = (columns[name].tolist() for name in ("log_pf_B", "log_z_B", "log_reward_B"))
    residuals = [z[b] + pf[b] - reward[b] for b in range(6)]
    assert output.loss.item() == pytest.approx(sum(r * r for r in residuals) / 6, abs=1e-12)
    assert output.weight.item() == 6
    for leaf in ("log_pf_B", "log_z_B"):
        (gradient,) = torch.autograd.grad(output.loss, columns[leaf], retain_graph=True)
        torch.testing.assert_close(gradient, torch.tensor(residuals, dtype=torch.float64) / 3)
    gap = [reward[b] - pf[b] for b in range(6)]
    assert output.diagnostics["log_z_estimate"].item() == pytest.approx(sum(gap) / 6)
    assert output.diagnostics["residual_mean"].item() == pytest.approx(sum(residuals) / 6)


def test_gradcheck_and_constant_reward(columns: dict[str, torch.Tensor]) -> None:
    reward = columns["log_reward_B"].requires_grad_()
    assert torch.autograd.gradcheck(lambda p, z: tb_loss(p, z, reward).loss, (columns["log_pf_B"], columns["log_z_B"]))
    loss = tb_loss(columns["log_pf_B"], columns["log_z_B"], reward).loss
    assert torch.autograd.grad(loss, reward, allow_unused=True)[0] is None


@pytest.mark.parametrize("name", ["log_pf_B", "log_z_B", "log_reward_B"])
def test_planted_sign_errors_are_caught(name: str, columns: dict[str, torch.Tensor]) -> None:
    right = tb_loss(**columns).loss
    assert (tb_loss(**{**columns, name: -columns[name]}).loss - right).abs() > 1e-3


def test_objective_is_the_function(
    columns: dict[str, torch.Tensor], make_batch: Callable[..., SimpleNamespace]
) -> None:
    assert TrajectoryBalance()(columns).loss == tb_loss(**columns).loss
    assert TrajectoryBalance().requires == set(columns)
