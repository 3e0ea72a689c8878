"""FlowRL: the policy at which the loss is zero, what shifts it, and what log Z does to the expected gradient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.flowrl import FlowRL, flowrl_loss, whole_log_probs
from lightning_gfn.objectives.gflowrl import GFlowRL


def uniform_reference(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each letter and stop with probability 1/3; the stop after three letters is forced."""
    third = math.log(1 / 3)
    return {
        "ref_log_pf_BT": torch.full_like(columns["log_pf_BT"].detach(), third),
        "ref_log_pstop_BT1": torch.full_like(columns["log_pstop_BT1"].detach(), third),
        "forced_stop_B": columns["mask_BT"].sum(1) == 3,
    }


def tree_columns(tree: Any, beta: float) -> dict[str, Tensor]:
    """The tree's policy is the present and old one; β r + log q_ref is its log reward."""
    columns = {**tree.columns, **uniform_reference(tree.columns)}
    columns |= {f"old_{name}": columns[name].detach() for name in ("log_pf_BT", "log_pstop_BT1")}
    ref_B, _ = whole_log_probs(columns, "ref_")
    return {**columns, "log_reward_B": (columns["log_reward_B"] - ref_B) / beta}


@pytest.mark.parametrize("log_z", ["learned", "group_mean", "vargrad"])
@pytest.mark.parametrize("kind", [FlowRL, GFlowRL])
def test_the_tilted_reference_has_zero_loss_and_gradient(kind: type[FlowRL], log_z: Any, tree: Any) -> None:
    objective = kind(log_z=log_z, length_normalise=False, reward_scale="none", beta=3.0)
    columns = tree_columns(tree, 3.0)
    output = objective({**columns, **objective.prepare(columns)})
    assert output.loss.item() == pytest.approx(0.0, abs=1e-20)
    assert output.diagnostics["log_z_mean"].item() == pytest.approx(tree.log_z, abs=1e-9)
    for gradient in torch.autograd.grad(output.loss, list(tree.leaves.values()), allow_unused=True):
        assert gradient is None or gradient.abs().max() < 1e-9


@pytest.mark.parametrize(
    "changes",
    [{"length_normalise": True}, {"beta": 2.0}, {"reward_scale": "group"}, {"log_z": "noise"}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_zero_is_lost_at_other_settings(changes: dict[str, Any], tree: Any) -> None:
    settings = {"log_z": "learned", "length_normalise": False, "reward_scale": "none", "beta": 3.0, **changes}
    objective, columns = FlowRL(**settings), tree_columns(tree, 3.0)
    assert objective({**columns, **objective.prepare(columns)}).loss.item() > 1e-3


def test_length_normalisation_moves_the_fixed_point(tree: Any) -> None:
    """It is q_ref exp(l (β r - c)) with the c at which it sums to 1, not q_ref exp(β r) / Z."""
    columns = tree_columns(tree, 1.0)
    ref_B, actions_B = whole_log_probs(columns, "ref_")
    reward_B, length_B = columns["log_reward_B"], actions_B.double()
    low, high = reward_B.min().item(), reward_B.max().item()
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if (ref_B + length_B * (reward_B - c)).logsumexp(0) > 0 else (low, c)
    shifted_B = ref_B + length_B * (reward_B - c)
    assert shifted_B.exp().sum().item() == pytest.approx(1.0)
    constant_B = torch.full_like(shifted_B, c)
    loss = flowrl_loss(shifted_B, shifted_B, ref_B, length_B, constant_B, reward_B, beta=1.0).loss
    assert loss.item() == pytest.approx(0.0, abs=1e-18)
    target_B = (ref_B + reward_B).log_softmax(0)
    assert 0.5 * (shifted_B.exp() - target_B.exp()).abs().sum() > 0.02
    assert flowrl_loss(target_B, target_B, ref_B, length_B, constant_B, reward_B, beta=1.0).loss > 1e-3
    assert flowrl_loss(target_B, target_B, ref_B, torch.ones_like(ref_B), tree.log_z * torch.ones_like(ref_B),
                       reward_B, beta=1.0).loss.item() == pytest.approx(0.0, abs=1e-18)  # fmt: skip


# ---------------------------------------------------------------- what log Z does to the expected gradient


def expected_gradient(logits: Tensor, reward: Tensor, length: Tensor, log_z: float) -> Tensor:
    """Σ_y q(y) ∇ loss(y) over six trajectories, exactly."""
    log_q = logits.log_softmax(0)
    ref = torch.full_like(log_q, -math.log(6)).detach()
    arguments = (log_q, log_q.detach(), ref, length, torch.full_like(ref, log_z), reward)
    losses = [flowrl_loss(*(x[y : y + 1] for x in arguments), beta=1.0).loss for y in range(6)]
    return torch.autograd.grad((log_q.exp().detach() * torch.stack(losses)).sum(), logits)[0]


def test_log_z_is_a_mere_baseline_without_length_normalisation_and_more_with_it() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    reward = torch.randn(6, generator=generator, dtype=torch.float64)
    ones, length = torch.ones(6, dtype=torch.float64), torch.tensor([1.0, 2, 3, 4, 6, 9], dtype=torch.float64)
    log_q = logits.log_softmax(0)
    (kl_gradient,) = torch.autograd.grad((log_q.exp() * (log_q - reward)).sum(), logits)
    for log_z in (-2.0, 0.5, 3.0):
        torch.testing.assert_close(expected_gradient(logits, reward, ones, log_z), 2 * kl_gradient)
    one, other = (expected_gradient(logits, reward, length, log_z) for log_z in (-2.0, 3.0))
    assert (one - other).abs().max() > 1e-2
