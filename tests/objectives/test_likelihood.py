"""Likelihood: written loop over actions, the stop, forced stops, padding."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.stop_action import append_stop
from lightning_gfn.objectives.likelihood import Likelihood, likelihood_loss

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 0, 1, 8]


def action_loop(b: SimpleNamespace) -> tuple[Tensor, int]:
    """All log-probabilities one by one; row 3 was cut at the maximum length."""
    actions = [b.log_pf_BT[row, t] for row, n in enumerate(LENGTHS) for t in range(n)]
    actions += [b.log_pstop_BT1[row, n] for row, n in enumerate(LENGTHS) if not b.forced_stop_B[row]]
    return -torch.stack(actions).sum(), len(actions)


def nll(b: SimpleNamespace) -> Tensor:
    return likelihood_loss(b.log_pf_BT, b.log_pstop_BT1, b.mask_BT, b.forced_stop_B).loss


def test_written_loop_and_gradient(make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    output = Likelihood()(vars(b))
    total, count = action_loop(b)
    assert output.weight.item() == count == 14 + 3
    torch.testing.assert_close(output.sum, total)
    leaves = [b.log_pf_BT, b.log_pstop_BT1]
    for found, wanted in zip(torch.autograd.grad(output.sum, leaves), torch.autograd.grad(total, leaves), strict=True):
        torch.testing.assert_close(found, wanted)
    assert output.diagnostics["perplexity"].item() == pytest.approx((total / count).exp().item())
    assert output.diagnostics["nll_per_completion"].item() == pytest.approx(total.item() / 4)


def test_cross_entropy_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    stop = 5
    targets = torch.tensor([[1, 2, 0, stop], [4, stop, -100, -100]])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    log_q = logits.log_softmax(-1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    tokens = log_q[:, :3].gather(2, targets[:, :3].clamp_min(0).unsqueeze(2)).squeeze(2)
    found = likelihood_loss(tokens, log_q[:, :, stop], mask, torch.zeros(2, dtype=torch.bool)).loss
    torch.testing.assert_close(found, expected)


def test_gradcheck_and_padding(make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    assert torch.autograd.gradcheck(
        lambda pf, stop: likelihood_loss(pf, stop, b.mask_BT, b.forced_stop_B).loss, (b.log_pf_BT, b.log_pstop_BT1)
    )
    value = nll(b)
    last_BT1 = torch.arange(10) == b.mask_BT.sum(1, keepdim=True)
    b.log_pf_BT = torch.where(b.mask_BT, b.log_pf_BT.detach(), float("-inf")).requires_grad_()
    b.log_pstop_BT1 = torch.where(last_BT1, b.log_pstop_BT1.detach(), float("nan")).requires_grad_()
    torch.testing.assert_close(nll(b), value)
    for gradient in torch.autograd.grad(nll(b), [b.log_pf_BT, b.log_pstop_BT1]):
        assert torch.isfinite(gradient).all()


def test_append_stop_puts_the_stop_after_the_last_token(make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    log_pf, actions = append_stop(b.log_pf_BT, b.log_pstop_BT1, b.mask_BT, b.forced_stop_B)
    assert actions.sum(1).tolist() == [6, 1, 2, 8]
    assert log_pf[1, 0] == b.log_pstop_BT1[1, 0]
    assert log_pf[0, 5] == b.log_pstop_BT1[0, 5]
    assert torch.equal(log_pf[~actions], torch.zeros_like(log_pf[~actions]))


@pytest.mark.parametrize("plant", ["sign", "stop one early", "forced stop counted", "padding counted"])
def test_planted_errors_are_caught(plant: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    total, count = action_loop(b)
    if plant == "sign":
        b.log_pf_BT = -b.log_pf_BT
    elif plant == "stop one early":
        b.log_pstop_BT1 = b.log_pstop_BT1.roll(1, dims=1)
    elif plant == "forced stop counted":
        b.forced_stop_B = torch.zeros_like(b.forced_stop_B)
    else:
        b.mask_BT = torch.ones_like(b.mask_BT)
    assert (nll(b) - total / count).abs() > 1e-3
