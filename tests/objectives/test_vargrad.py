"""VarGrad: written loop, groups, and its identities with trajectory balance, REINFORCE and the KL divergence."""

from __future__ import annotations

import itertools
import statistics

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives import vargrad
from lightning_gfn.objectives.functional.advantages import group_mean
from lightning_gfn.objectives.trajectory_balance import tb_loss
from lightning_gfn.objectives.vargrad import VarGrad, vargrad_loss

GROUPS = torch.tensor([9, -4, 9, 2**40, 9, -4, 0])


def draw(size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def pf() -> Tensor:
    return draw(7, 0).requires_grad_()


@pytest.fixture
def reward() -> Tensor:
    return draw(7, 1)


def group_loop(pf: Tensor, reward: Tensor, groups: Tensor) -> float:
    """Population variance of each group by the standard library, weighted by the group's size."""
    total = 0.0
    for group in set(groups.tolist()):
        values = [(pf[b] - reward[b]).item() for b in range(len(groups)) if groups[b] == group]
        total += statistics.pvariance(values) * len(values)
    return total / len(groups)


def test_written_loop_over_arbitrary_groups(pf: Tensor, reward: Tensor) -> None:
    output = vargrad_loss(pf, reward, GROUPS)
    assert output.loss.item() == pytest.approx(group_loop(pf, reward, GROUPS), abs=1e-12)
    assert output.weight.item() == 7
    assert output.diagnostics["group_size_mean"].item() == pytest.approx((3 * 3 + 2 * 2 + 1 + 1) / 7)
    assert torch.autograd.gradcheck(lambda p: vargrad_loss(p, reward, GROUPS).loss, (pf,))
    assert torch.autograd.gradgradcheck(lambda p: vargrad_loss(p, reward, GROUPS).loss, (pf,))


def test_groups_of_one_are_zero_with_a_graph(pf: Tensor, reward: Tensor) -> None:
    output = vargrad_loss(pf, reward, torch.arange(7))
    assert output.loss.item() == 0.0
    assert torch.equal(torch.autograd.grad(output.loss, pf)[0], torch.zeros_like(pf))


def test_batch_is_the_union_of_its_groups(pf: Tensor, reward: Tensor) -> None:
    whole = vargrad_loss(pf, reward, GROUPS)
    rows = [[b for b, group in enumerate(GROUPS.tolist()) if group == g] for g in GROUPS.unique().tolist()]
    parts = [vargrad_loss(pf[row], reward[row], GROUPS[row]) for row in rows]
    torch.testing.assert_close(whole.sum, torch.stack([part.sum for part in parts]).sum())


def test_trajectory_balance_at_the_best_log_z(pf: Tensor, reward: Tensor) -> None:
    log_z, _ = group_mean((reward - pf).detach(), GROUPS)
    expected = tb_loss(pf, log_z, reward).loss
    found = vargrad_loss(pf, reward, GROUPS).loss
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    # log Z is constant in tb_loss here: a detached mean gives the same gradient
    torch.testing.assert_close(*(torch.autograd.grad(loss, pf)[0] for loss in (found, expected)))
    for shift in (-0.3, 0.3):
        assert tb_loss(pf, log_z + shift, reward).loss > expected


@pytest.fixture
def policy() -> tuple[Tensor, Tensor]:
    """Logits over six trajectories, and their log rewards."""
    return draw(6, 2).requires_grad_(), draw(6, 3)


def test_gradient_is_twice_reinforce_with_a_mean_baseline(policy: tuple[Tensor, Tensor]) -> None:
    logits, log_reward = policy
    drawn = torch.tensor([0, 3, 3, 5, 1])
    log_q = logits.log_softmax(0)[drawn]
    shaped = (log_reward[drawn] - log_q).detach()
    reinforce = -((shaped - shaped.mean()) * log_q).mean()
    loss = vargrad_loss(log_q, log_reward[drawn], torch.zeros(5, dtype=torch.int64)).loss
    gradients = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, reinforce)]
    torch.testing.assert_close(gradients[0], 2 * gradients[1], atol=1e-12, rtol=1e-12)


def test_expected_on_policy_gradient_is_that_of_the_kl_divergence(policy: tuple[Tensor, Tensor]) -> None:
    logits, log_reward = policy
    log_q = logits.log_softmax(0)
    (kl_gradient,) = torch.autograd.grad((log_q.exp() * (log_q - log_reward)).sum(), logits, retain_graph=True)
    num_samples = 3
    expected = torch.zeros_like(logits)
    for drawn in itertools.product(range(6), repeat=num_samples):
        index = torch.tensor(drawn)
        loss = vargrad_loss(log_q[index], log_reward[index], torch.zeros(num_samples, dtype=torch.int64)).loss
        probability = log_q[index].sum().exp().detach()
        expected += probability * torch.autograd.grad(loss, logits, retain_graph=True)[0]
    shrinkage = 2 * (num_samples - 1) / num_samples
    torch.testing.assert_close(expected, shrinkage * kl_gradient, atol=1e-10, rtol=1e-10)


def test_large_gaps_in_float32() -> None:
    pf = (draw(64, 5) - 2000).float()
    groups = torch.arange(64) % 4
    exact = vargrad_loss(pf.double(), torch.zeros(64, dtype=torch.float64), groups).loss.item()
    assert abs(vargrad_loss(pf, torch.zeros(64), groups).loss.item() / exact - 1) < 1e-3


@pytest.mark.parametrize("plant", ["reward sign", "groups ignored", "sum for mean", "neighbour's group"])
def test_planted_errors_are_caught(plant: str, pf: Tensor, reward: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = group_loop(pf, reward, GROUPS)
    groups = GROUPS
    if plant == "reward sign":
        reward = -reward
    elif plant == "groups ignored":
        groups = torch.zeros_like(GROUPS)
    elif plant == "neighbour's group":
        groups = GROUPS.roll(1)
    else:
        monkeypatch.setattr(vargrad, "group_mean", lambda x, g: (group_mean(x, g)[0] * 2, group_mean(x, g)[1]))
    assert abs(vargrad_loss(pf, reward, groups).loss.item() - expected) > 1e-3


def test_objective_is_the_function(pf: Tensor, reward: Tensor) -> None:
    columns = {"log_pf_B": pf, "log_reward_B": reward, "group_B": GROUPS}
    assert VarGrad()(columns).loss == vargrad_loss(pf, reward, GROUPS).loss
    assert VarGrad().requires == set(columns)
