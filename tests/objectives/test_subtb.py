"""Modified SubTB and SubTB(λ): written loops, masks, limits, precision, planted errors."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives import subtb
from lightning_gfn.objectives.detailed_balance import detailed_balance_loss, modified_detailed_balance_loss
from lightning_gfn.objectives.functional import potentials
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB, modified_subtb_loss, subtb_loss
from lightning_gfn.objectives.trajectory_balance import tb_loss

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 0, 1, 8, 3]


def modified(b: SimpleNamespace, **options: object) -> Tensor:
    return modified_subtb_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT, **options).loss


def learned(b: SimpleNamespace, **options: object) -> Tensor:
    return subtb_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1, b.log_reward_B, b.mask_BT, **options).loss


def kept_rows(b: SimpleNamespace, with_mask: bool, terminal: bool) -> list[list[bool]]:
    rows = [b.prefix_mask_BT1[r, : n + 1].tolist() if with_mask else [True] * (n + 1) for r, n in enumerate(b.lengths)]
    return [[*row, True] for row in rows] if terminal else rows


@pytest.mark.parametrize("lam", [1.0, 0.9, 0.4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("kind", ["modified", "learned"])
def test_written_double_loop(
    lam: float, reduction: str, with_mask: bool, kind: str, make_batch: Maker, loops: SimpleNamespace
) -> None:
    b = make_batch(LENGTHS, num_positions=10)
    mask = b.prefix_mask_BT1 if with_mask else None
    balance, loss = (loops.stop_balance, modified) if kind == "modified" else (loops.flow_balance, learned)
    rows = [balance(b, row) for row in range(len(LENGTHS))]
    expected = loops.pair_loop(rows, lam, kept_rows(b, with_mask, kind == "learned"), reduction)
    value = loss(b, prefix_mask_BT1=mask, lam=lam, reduction=reduction)
    torch.testing.assert_close(value, expected, atol=1e-9, rtol=1e-9)
    leaves = [b.log_pf_BT, b.log_pstop_BT1] + ([b.log_f_BT1] if kind == "learned" else [])
    for found, wanted in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("lam", [1.0, 0.8])
def test_gradcheck(lam: float, make_batch: Maker) -> None:
    b = make_batch([3, 0, 4])
    assert torch.autograd.gradcheck(
        lambda pf, stop: modified_subtb_loss(pf, stop, b.log_reward_BT1, b.mask_BT, lam=lam).loss,
        (b.log_pf_BT, b.log_pstop_BT1),
    )
    assert torch.autograd.gradcheck(
        lambda pf, stop, f: subtb_loss(pf, stop, f, b.log_reward_B, b.mask_BT, lam=lam).loss,
        (b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1),
    )


@pytest.mark.parametrize("lam", [1.0, 0.8])
@pytest.mark.parametrize("garbage", [float("-inf"), float("nan"), 1e30])
@pytest.mark.parametrize("loss", [modified, learned])
def test_padded_equals_sliced(loss: Callable[..., Tensor], lam: float, garbage: float, make_batch: Maker) -> None:
    b = make_batch([4, 2, 0], num_positions=4)
    value = loss(b, lam=lam)
    gradients = torch.autograd.grad(value, [b.log_pf_BT, b.log_pstop_BT1])

    padded = make_batch([4, 2, 0], num_positions=4)
    mask_BT = torch.nn.functional.pad(b.mask_BT, (0, 3))
    valid_BT1 = torch.nn.functional.pad(mask_BT, (1, 0), value=True)
    for name in ("log_pf_BT", "log_pstop_BT1", "log_f_BT1", "log_reward_BT1"):
        wide = torch.nn.functional.pad(getattr(padded, name).detach(), (0, 3))
        keep = mask_BT if name == "log_pf_BT" else valid_BT1
        setattr(padded, name, torch.where(keep, wide, garbage).requires_grad_(name != "log_reward_BT1"))
    padded.mask_BT = mask_BT
    padded_value = loss(padded, lam=lam)
    torch.testing.assert_close(padded_value, value, atol=1e-12, rtol=1e-12)
    for found, wanted in zip(
        torch.autograd.grad(padded_value, [padded.log_pf_BT, padded.log_pstop_BT1]), gradients, strict=True
    ):
        width = wanted.shape[1]
        torch.testing.assert_close(found[:, :width], wanted, atol=1e-12, rtol=1e-12)
        assert torch.equal(found[:, width:], torch.zeros_like(found[:, width:]))


@pytest.mark.parametrize("lam", [1.0, 0.8])
def test_forbidden_prefixes_may_hold_anything(lam: float, make_batch: Maker) -> None:
    b = make_batch([6, 3])
    mask = b.prefix_mask_BT1
    clean = modified(b, prefix_mask_BT1=mask, lam=lam)
    stop = torch.where(mask, b.log_pstop_BT1, float("-inf"))
    reward = torch.where(mask, b.log_reward_BT1, float("nan"))
    loss = modified_subtb_loss(b.log_pf_BT, stop, reward, b.mask_BT, prefix_mask_BT1=mask, lam=lam).loss
    torch.testing.assert_close(loss, clean, atol=1e-12, rtol=1e-12)
    assert torch.isfinite(torch.autograd.grad(loss, b.log_pf_BT)[0]).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("lam", [1.0, 0.7])
def test_batch_is_the_union_of_its_rows(lam: float, reduction: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    columns = (b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT)
    whole = modified_subtb_loss(*columns, lam=lam, reduction=reduction)
    rows = [modified_subtb_loss(*(c[r : r + 1] for c in columns), lam=lam, reduction=reduction) for r in range(5)]
    torch.testing.assert_close(whole.sum, torch.stack([row.sum for row in rows]).sum())
    torch.testing.assert_close(whole.weight, torch.stack([row.weight for row in rows]).sum())
    assert not whole.weight.requires_grad


@pytest.mark.parametrize("loss", [modified, learned])
def test_no_pair_is_zero_with_a_graph(loss: Callable[..., Tensor], make_batch: Maker) -> None:
    b = make_batch([0, 4])
    nothing = torch.zeros_like(b.prefix_mask_BT1)
    for lam in (1.0, 0.9):
        value = loss(b, prefix_mask_BT1=nothing, lam=lam)
        assert value.item() == 0.0
        assert torch.equal(torch.autograd.grad(value, b.log_pf_BT)[0], torch.zeros_like(b.log_pf_BT))


def test_only_the_whole_trajectory_gives_trajectory_balance(make_batch: Maker) -> None:
    b = make_batch([4, 2, 7], num_positions=9)
    ends = torch.zeros_like(b.prefix_mask_BT1)
    n_B1 = b.mask_BT.sum(1, keepdim=True)
    ends = ends.scatter(1, n_B1, True)
    ends[:, 0] = True
    stop_B = b.log_pstop_BT1.gather(1, n_B1).squeeze(1)
    log_pf_B = torch.where(b.mask_BT, b.log_pf_BT, 0.0).sum(1) + stop_B
    log_z_B = b.log_reward_BT1[:, 0] - b.log_pstop_BT1[:, 0]
    expected = tb_loss(log_pf_B, log_z_B, b.log_reward_BT1.gather(1, n_B1).squeeze(1))
    output = modified_subtb_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT, prefix_mask_BT1=ends)
    torch.testing.assert_close(output.loss, expected.loss, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(output.diagnostics["residual_rms"], expected.loss.sqrt().detach())

    root = torch.zeros_like(b.prefix_mask_BT1)
    root[:, 0] = True
    with_flow = learned(b, prefix_mask_BT1=root, lam=1.0)
    torch.testing.assert_close(with_flow, tb_loss(log_pf_B, b.log_f_BT1[:, 0], b.log_reward_B).loss)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_small_lambda_is_detailed_balance(reduction: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    stop = (b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT)
    flow = (b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1, b.log_reward_B, b.mask_BT)
    first = modified_detailed_balance_loss(*stop, reduction=reduction).loss
    second = detailed_balance_loss(*flow, reduction=reduction).loss
    torch.testing.assert_close(modified(b, lam=1e-9, reduction=reduction), first, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(learned(b, lam=1e-9, reduction=reduction), second, atol=1e-6, rtol=1e-6)
    assert (modified(b, lam=1.0, reduction=reduction) - first).abs() > 0.1


@pytest.mark.parametrize("lam", [1.0, 0.95])
@pytest.mark.parametrize("where", ["reward", "path"])
def test_large_potentials_in_float32(lam: float, where: str, make_batch: Maker) -> None:
    exact = make_batch([300, 220, 300], seed=4)
    steps = torch.arange(301) / 300
    with torch.no_grad():
        if where == "reward":
            exact.log_reward_BT1 += 2000.0
        else:
            exact.log_pf_BT -= 2000.0 / 300
            exact.log_reward_BT1 -= 2000.0 * steps
    single = SimpleNamespace(**vars(exact))
    for name in ("log_pf_BT", "log_pstop_BT1", "log_reward_BT1"):
        setattr(single, name, getattr(exact, name).detach().float().requires_grad_(name != "log_reward_BT1"))
    expected, value = modified(exact, lam=lam), modified(single, lam=lam)
    assert value.dtype == torch.float32
    assert abs(value.item() / expected.item() - 1) < 1e-3
    wanted, found = (torch.autograd.grad(v, x.log_pf_BT)[0] for v, x in ((expected, exact), (value, single)))
    assert (wanted - found).abs().max() < 1e-3 * wanted.abs().max()


def test_half_precision_is_computed_in_float32(make_batch: Maker) -> None:
    b = make_batch([40, 31], dtype=torch.bfloat16)
    value = modified_subtb_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT, lam=0.9)
    columns = (b.log_pf_BT.double(), b.log_pstop_BT1.double(), b.log_reward_BT1.double(), b.mask_BT)
    assert value.loss.dtype == torch.float32
    assert abs(value.loss.item() / modified_subtb_loss(*columns, lam=0.9).loss.item() - 1) < 1e-3


def potentials_with_error(plant: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """``stop_potentials`` with one deliberate mistake."""
    true = potentials.stop_potentials

    def wrong(pf: Tensor, stop: Tensor, reward: Tensor, mask: Tensor, prefixes: Tensor | None) -> tuple[Tensor, Tensor]:
        if plant == "reward sign":
            return true(pf, stop, -reward, mask, prefixes)
        if plant == "stop sign":
            return true(pf, -stop, reward, mask, prefixes)
        if plant == "padding counted":
            return true(pf, stop, reward, torch.ones_like(mask), prefixes)
        if plant == "last prefix lost":
            values, valid = true(pf, stop, reward, mask, prefixes)
            return values, valid & torch.nn.functional.pad(mask, (0, 1))
        if plant == "prefix mask ignored":
            return true(pf, stop, reward, mask, None)
        if plant == "stop one late":
            return true(pf, stop.roll(1, dims=1), reward, mask, prefixes)
        return true(pf, stop, reward, mask, prefixes)

    return wrong


@pytest.mark.parametrize(
    "plant",
    [
        "none",
        "reward sign",
        "stop sign",
        "padding counted",
        "last prefix lost",
        "prefix mask ignored",
        "stop one late",
    ],
)
def test_planted_errors_are_caught(
    plant: str, make_batch: Maker, loops: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = make_batch(LENGTHS, num_positions=10)
    rows = [loops.stop_balance(b, row) for row in range(len(LENGTHS))]
    expected = loops.pair_loop(rows, 0.9, kept_rows(b, True, False), "mean")
    monkeypatch.setattr(subtb, "stop_potentials", potentials_with_error(plant))
    difference = (modified(b, prefix_mask_BT1=b.prefix_mask_BT1, lam=0.9) - expected).abs()
    assert difference < 1e-9 if plant == "none" else difference > 1e-3


def test_objectives_pass_their_settings_on(make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    steps = b.prefix_mask_BT1.clone()
    steps[:, 0] = True
    columns = {**vars(b), "stop_mask_BT1": torch.ones_like(steps), "step_mask_BT1": steps}
    step = ModifiedSubTB(lam=0.7, level="step", reduction="sum")
    token = ModifiedSubTB(lam=0.7)
    torch.testing.assert_close(step(columns).loss, modified(b, prefix_mask_BT1=steps, lam=0.7, reduction="sum"))
    torch.testing.assert_close(token(columns).loss, modified(b, lam=0.7))
    torch.testing.assert_close(SubTB(lam=0.6, reduction="sum")(columns).loss, learned(b, lam=0.6, reduction="sum"))
    assert "step_mask_BT1" in step.requires and "stop_mask_BT1" not in step.requires


def test_log_z_estimate_is_minus_the_mean_potential(make_batch: Maker, loops: SimpleNamespace) -> None:
    b = make_batch([3, 1])
    output = modified_subtb_loss(b.log_pf_BT, b.log_pstop_BT1, b.log_reward_BT1, b.mask_BT)
    means = [torch.stack(loops.stop_balance(b, row)).mean() for row in range(2)]
    torch.testing.assert_close(output.diagnostics["log_z_estimate"], -torch.stack(means).mean().detach())
