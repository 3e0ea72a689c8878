"""Detailed balance: written loop over transitions, masks, planted errors."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.detailed_balance import (
    DetailedBalance,
    ModifiedDetailedBalance,
    detailed_balance_loss,
    modified_detailed_balance_loss,
)

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 0, 1, 8, 3]


def learned(b: SimpleNamespace, **options: object) -> Tensor:
    return detailed_balance_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1, b.log_reward_B, b.mask_BT, **options).loss


def modified(b: SimpleNamespace, **options: object) -> Tensor:
    return modified_detailed_balance_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT, **options).loss


def transition_loop(b: SimpleNamespace, reduction: str) -> Tensor:
    """Every transition written out, the stop last."""
    squares = []
    for row, n in enumerate(b.lengths):
        f = b.log_f_BT1[row]
        squares += [(f[i] + b.log_pf_BT[row, i] - f[i + 1]) ** 2 for i in range(n)]
        squares.append((f[n] + b.log_pstop_BT1[row, n] - b.log_reward_B[row]) ** 2)
    return torch.stack(squares).sum() / (len(squares) if reduction == "mean" else len(b.lengths))


def modified_loop(b: SimpleNamespace, kept: list[list[bool]], reduction: str) -> Tensor:
    """Transitions between consecutive kept prefixes, with the flow R / q(stop) written out."""
    squares = []
    for row, keep in enumerate(kept):
        allowed = [i for i, k in enumerate(keep) if k]
        flow = b.log_reward_BT1[row] - b.log_pstop_BT1[row]
        squares += [
            (flow[i] + b.log_pf_BT[row, i:j].sum() - flow[j]) ** 2 for i, j in zip(allowed, allowed[1:], strict=False)
        ]
    return torch.stack(squares).sum() / (len(squares) if reduction == "mean" else len(kept))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_written_loop_with_flow(reduction: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=10)
    value, expected = learned(b, reduction=reduction), transition_loop(b, reduction)
    torch.testing.assert_close(value, expected, atol=1e-10, rtol=1e-10)
    leaves = [b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1]
    for found, wanted in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("with_mask", [False, True])
def test_written_loop_without_flow(reduction: str, with_mask: bool, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=10)
    kept = [b.prefix_mask_BT1[r, : n + 1].tolist() if with_mask else [True] * (n + 1) for r, n in enumerate(LENGTHS)]
    value = modified(b, prefix_mask_BT1=b.prefix_mask_BT1 if with_mask else None, reduction=reduction)
    torch.testing.assert_close(value, modified_loop(b, kept, reduction), atol=1e-10, rtol=1e-10)


def test_gradcheck(make_batch: Maker) -> None:
    b = make_batch([3, 0, 4])
    assert torch.autograd.gradcheck(
        lambda pf, stop, f: detailed_balance_loss(pf, stop, f, b.log_reward_B, b.mask_BT).loss,
        (b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1),
    )
    assert torch.autograd.gradcheck(
        lambda pf, stop: (
            modified_detailed_balance_loss(
                pf, stop, b.log_reward_BT1, b.mask_BT, prefix_mask_BT1=b.prefix_mask_BT1
            ).loss
        ),
        (b.log_pf_BT, b.log_pstop_BT1),
    )


@pytest.mark.parametrize("loss", [learned, modified])
@pytest.mark.parametrize("garbage", [float("-inf"), float("nan")])
def test_padding_may_hold_anything(loss: Callable[..., Tensor], garbage: float, make_batch: Maker) -> None:
    clean, dirty = make_batch([4, 2, 0], num_positions=6), make_batch([4, 2, 0], num_positions=6)
    valid_BT1 = torch.nn.functional.pad(clean.mask_BT, (1, 0), value=True)
    for name in ("log_pf_BT", "log_pstop_BT1", "log_f_BT1", "log_reward_BT1"):
        keep = clean.mask_BT if name == "log_pf_BT" else valid_BT1
        wide = torch.where(keep, getattr(clean, name).detach(), garbage)
        setattr(dirty, name, wide.requires_grad_(name != "log_reward_BT1"))
    torch.testing.assert_close(loss(dirty), loss(clean), atol=1e-12, rtol=1e-12)
    found, wanted = (torch.autograd.grad(loss(x), x.log_pf_BT)[0] for x in (dirty, clean))
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


def test_batch_is_the_union_of_its_rows(make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    columns = (b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1, b.log_reward_B, b.mask_BT)
    whole = detailed_balance_loss(*columns)
    rows = [detailed_balance_loss(*(c[r : r + 1] for c in columns)) for r in range(len(LENGTHS))]
    torch.testing.assert_close(whole.sum, torch.stack([row.sum for row in rows]).sum())
    assert whole.weight.item() == sum(row.weight.item() for row in rows) == sum(n + 1 for n in LENGTHS)


@pytest.mark.parametrize("plant", ["flow sign", "reward sign", "stop read at the wrong prefix", "padding counted"])
def test_planted_errors_are_caught(plant: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=10)
    expected = transition_loop(b, "mean")
    if plant == "flow sign":
        b.log_f_BT1 = -b.log_f_BT1
    elif plant == "reward sign":
        b.log_reward_B = -b.log_reward_B
    elif plant == "stop read at the wrong prefix":
        b.log_pstop_BT1 = b.log_pstop_BT1.roll(1, dims=1)
    else:
        b.mask_BT = torch.ones_like(b.mask_BT)
    assert (learned(b) - expected).abs() > 1e-3


def test_objectives_pass_their_settings_on(make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    columns = {**vars(b), "stop_mask_BT1": torch.ones_like(b.prefix_mask_BT1), "step_mask_BT1": b.prefix_mask_BT1}
    torch.testing.assert_close(DetailedBalance(reduction="sum")(columns).loss, learned(b, reduction="sum"))
    torch.testing.assert_close(ModifiedDetailedBalance()(columns).loss, modified(b))
    step = ModifiedDetailedBalance(level="step", reduction="sum")
    torch.testing.assert_close(step(columns).loss, modified(b, prefix_mask_BT1=b.prefix_mask_BT1, reduction="sum"))
