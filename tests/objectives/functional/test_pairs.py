"""The linear-time pair sums against the written double loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional import pairs
from lightning_gfn.objectives.functional.pairs import (
    consecutive_sums,
    decayed_cumsum,
    fill_forward,
    group_pair_sums,
    pair_sums,
)


def all_pairs(values_BS: Tensor, mask_BS: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Quadratic memory, no recurrences: the matrix of all pairs."""
    S = values_BS.shape[1]
    i, j = torch.arange(S).unsqueeze(1), torch.arange(S).unsqueeze(0)
    weight = torch.where(j > i, lam ** (j - i - 1).clamp_min(0).to(values_BS.dtype), 0.0)
    weight_BSS = weight * (mask_BS.unsqueeze(1) & mask_BS.unsqueeze(2))
    values = torch.where(mask_BS, values_BS, 0.0)
    return (weight_BSS * (values.unsqueeze(1) - values.unsqueeze(2)) ** 2).sum((1, 2)), weight_BSS.sum((1, 2))


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 129, 4200])
@pytest.mark.parametrize("decay", [1.0, 0.97, 0.3])
def test_scan_is_the_recurrence(length: int, decay: float) -> None:
    values = torch.randn(2, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    expected, state = [], torch.zeros(2, dtype=torch.float64)
    for j in range(length):
        state = decay * state + values[:, j]
        expected.append(state)
    torch.testing.assert_close(decayed_cumsum(values, decay), torch.stack(expected, 1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("lam", [1.0, 0.99, 0.9, 0.5, 1e-3])
@pytest.mark.parametrize("size", [1, 2, 9, 64, 65, 200])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_value_and_gradient_of_all_pairs(lam: float, size: int, share: float) -> None:
    generator = torch.Generator().manual_seed(size)
    values = torch.randn(3, size, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.rand(3, size, generator=generator) < share
    total, weight = pair_sums(values, mask, lam)
    expected, expected_weight = all_pairs(values, mask, lam)
    torch.testing.assert_close(total, expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(weight, expected_weight, atol=1e-9, rtol=1e-9)
    coefficients = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(total @ coefficients, values)
    (expected_gradient,) = torch.autograd.grad(expected @ coefficients, values)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("groups", [[0, 0, 0, 0], [7, 2, 7, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_pairs_of_a_group_are_those_of_its_rows_laid_end_to_end(groups: list[int], share: float) -> None:
    generator = torch.Generator().manual_seed(len(set(groups)))
    values = torch.randn(4, 6, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.rand(4, 6, generator=generator) < share
    group = torch.tensor(groups)
    total, weight = group_pair_sums(values, mask, group)
    for one in set(groups):
        rows = group == one
        expected, expected_weight = all_pairs(values[rows].reshape(1, -1), mask[rows].reshape(1, -1), 1.0)
        torch.testing.assert_close(total[rows].sum(), expected.squeeze(), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(weight[rows].sum(), expected_weight.squeeze().double())
    if len(set(groups)) == 4:
        torch.testing.assert_close((total, weight), pair_sums(values, mask, 1.0))
    assert torch.autograd.gradcheck(lambda x: group_pair_sums(x, mask, group)[0], (values,))


@pytest.mark.parametrize("lam", [1.0, 0.9])
def test_gradcheck_of_both_orders(lam: float) -> None:
    values = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([[0, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: pair_sums(x, mask, lam)[0], (values,))
    assert torch.autograd.gradgradcheck(lambda x: pair_sums(x, mask, lam)[0], (values,))


@pytest.mark.parametrize("lam", [1.0, 0.99, 0.9])
@pytest.mark.parametrize("drift", [0.0, -4.0])
def test_large_values_keep_their_precision_in_float32(lam: float, drift: float) -> None:
    size = 500
    noise = torch.randn(4, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = (noise - 2000.0 + drift * torch.arange(size)).float()
    mask = torch.ones(4, size, dtype=torch.bool)
    mask[1:, 300:] = False
    exact = values.double().requires_grad_()
    single = values.clone().requires_grad_()
    expected, total = all_pairs(exact, mask, lam)[0].sum(), pair_sums(single, mask, lam)[0].sum()
    assert abs(total.item() / expected.item() - 1) < 1e-4
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    (gradient,) = torch.autograd.grad(total, single)
    assert (gradient - expected_gradient).abs().max() < 1e-3 * expected_gradient.abs().max()
    uncentred = (
        mask.sum(1) * torch.where(mask, values, 0.0).square().sum(1) - torch.where(mask, values, 0.0).sum(1) ** 2
    )
    if lam == 1.0 and drift == 0.0:
        assert abs(uncentred.sum().item() / expected.item() - 1) > 1e-3, "the naive form would pass this test"


def test_autocast_does_not_round_the_scan() -> None:
    values = torch.randn(2, 300, generator=torch.Generator().manual_seed(2))
    mask = torch.ones(2, 300, dtype=torch.bool)
    expected = pair_sums(values, mask, 0.9)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(pair_sums(values, mask, 0.9)[0], expected, atol=0, rtol=0)


def test_consecutive_sums_step_over_gaps() -> None:
    values = torch.tensor([[9.0, 1.0, 50.0, 4.0, 2.0], [9.0, 9.0, 9.0, 9.0, 3.0]])
    mask = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    total, number = consecutive_sums(values, mask)
    assert total.tolist() == [9.0 + 4.0, 0.0]
    assert number.tolist() == [2.0, 0.0]


def test_fill_forward_ignores_what_the_mask_leaves_out() -> None:
    values = torch.tensor([[float("nan"), 1.0, float("-inf"), 4.0, float("inf")]])
    mask = torch.tensor([[0, 1, 0, 1, 0]], dtype=torch.bool)
    assert fill_forward(values, mask).tolist() == [[0.0, 1.0, 1.0, 4.0, 4.0]]


@pytest.mark.parametrize("plant", ["decay", "band", "shift", "sign"])
def test_planted_errors_are_caught(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(2, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, 60, dtype=torch.bool)
    expected = all_pairs(values, mask, 0.9)[0]
    true_scan, true_increments = decayed_cumsum, pairs.increments
    wrong = {
        "decay": ("decayed_cumsum", lambda x, decay: true_scan(x, decay**2)),
        "band": (
            "decayed_cumsum",
            lambda x, decay: true_scan(x, decay) - decay**20 * _shifted(true_scan(x, decay), 20),
        ),
        "shift": ("decayed_cumsum", lambda x, decay: _shifted(true_scan(x, decay), 1)),
        "sign": ("increments", lambda x, m: true_increments(x, m).abs()),
    }[plant]
    monkeypatch.setattr(pairs, *wrong)
    assert ((pair_sums(values, mask, 0.9)[0] - expected).abs() / expected).max() > 1e-3


def _shifted(x: Tensor, by: int) -> Tensor:
    return torch.nn.functional.pad(x[..., :-by], (by, 0))
