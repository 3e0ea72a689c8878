"""GRPO: advantages, written loop, ratio 1 as the policy gradient, clipping, planted errors."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.advantages import group_advantages
from lightning_gfn.objectives.functional.stop_action import append_stop
from lightning_gfn.objectives.grpo import GRPO, grpo_loss
from lightning_gfn.types import LossOutput

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 0, 1, 8, 3, 4]


def old_policy(b: SimpleNamespace, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    return tuple(
        x.detach() + spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        for x in (b.log_pf_BT, b.log_pstop_BT1)
    )


def grpo_columns(b: SimpleNamespace, spread: float = 0.3) -> dict[str, Tensor]:
    old_pf, old_stop = old_policy(b, spread)
    return {**vars(b), "old_log_pf_BT": old_pf, "old_log_pstop_BT1": old_stop}


def loss_of(objective: GRPO, columns: dict[str, Tensor]) -> LossOutput:
    return objective({**columns, **objective.prepare(columns)})


def surrogate_loop(columns: dict[str, Tensor], lengths: list[int], scale: str, aggregation: str) -> Tensor:
    """Advantages by the standard library; actions, ratios and clipping one by one."""
    reward, group = columns["log_reward_B"].tolist(), columns["group_B"].tolist()
    rows, counts = [], []
    for b, n in enumerate(lengths):
        peers = [r for r, g in zip(reward, group, strict=True) if g == group[b]]
        advantage = reward[b] - statistics.mean(peers)
        if scale == "std":
            advantage /= (statistics.stdev(peers) if len(peers) > 1 else 0.0) + 1e-4
        new = [columns["log_pf_BT"][b, t] for t in range(n)]
        old = [columns["old_log_pf_BT"][b, t] for t in range(n)]
        if not columns["forced_stop_B"][b]:
            new.append(columns["log_pstop_BT1"][b, n])
            old.append(columns["old_log_pstop_BT1"][b, n])
        terms = [torch.zeros((), dtype=torch.float64)]
        for action, before in zip(new, old, strict=True):
            ratio = (action - before).exp()
            clipped = ratio if 0.8 <= ratio.item() <= 1.3 else ratio.detach().clamp(0.8, 1.3)
            terms.append(-min(ratio * advantage, clipped * advantage, key=lambda value: value.item()))
        rows.append(torch.stack(terms).sum())
        counts.append(len(new))
    if aggregation == "token":
        return torch.stack(rows).sum() / sum(counts)
    return torch.stack([row / max(1, count) for row, count in zip(rows, counts, strict=True)]).mean()


@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("aggregation", ["sequence", "token"])
def test_written_loop(scale: str, aggregation: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    columns = grpo_columns(b)
    objective = GRPO(clip_low=0.2, clip_high=0.3, advantage_scale=scale, aggregation=aggregation)
    output, expected = loss_of(objective, columns), surrogate_loop(columns, LENGTHS, scale, aggregation)
    torch.testing.assert_close(output.loss, expected, atol=1e-9, rtol=1e-9)
    leaves = [b.log_pf_BT, b.log_pstop_BT1]
    for found, wanted in zip(
        torch.autograd.grad(output.loss, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)
    assert 0.0 < output.diagnostics["clip_fraction"] < 1.0


@pytest.mark.parametrize("aggregation", ["sequence", "token"])
def test_ratio_one_is_the_policy_gradient(aggregation: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    columns = grpo_columns(b, spread=0.0)
    output = loss_of(GRPO(advantage_scale="none", aggregation=aggregation), columns)
    log_pf, actions = append_stop(b.log_pf_BT, b.log_pstop_BT1, b.mask_BT, b.forced_stop_B)
    advantage = group_advantages(b.log_reward_B, b.group_B, scale="none").unsqueeze(1)
    score = advantage * log_pf
    if aggregation == "token":
        expected = -score.sum() / actions.sum()
    else:
        expected = -(score.sum(1) / actions.sum(1).clamp_min(1)).mean()
    for leaf in (b.log_pf_BT, b.log_pstop_BT1):
        wanted, found = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (expected, output.loss))
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
        assert found.abs().sum() > 0
    assert output.diagnostics["ratio_mean"].item() == pytest.approx(1.0)
    assert output.diagnostics["clip_fraction"].item() == 0.0
    assert output.diagnostics["approx_kl"].item() == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"), [(1.5, 1, False), (1.5, -1, True), (0.5, 1, True), (0.5, -1, False)]
)
def test_clipping_stops_only_moves_away_from_the_old_policy(ratio: float, advantage: int, moves: bool) -> None:
    log_pf = torch.tensor([[math.log(ratio)]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    output = grpo_loss(log_pf, torch.zeros(1, 1), mask, torch.tensor([float(advantage)]))
    (gradient,) = torch.autograd.grad(output.loss, log_pf)
    assert (gradient.abs().item() > 0) == moves
    assert output.diagnostics["clip_fraction"].item() == float(not moves)


def test_gradcheck_and_padding(make_batch: Maker) -> None:
    b = make_batch([3, 0, 4], num_positions=6)
    advantage = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    old = b.log_pf_BT.detach() + 0.05
    assert torch.autograd.gradcheck(lambda pf: grpo_loss(pf, old, b.mask_BT, advantage).loss, (b.log_pf_BT,))
    clean = grpo_loss(b.log_pf_BT, old, b.mask_BT, advantage)
    dirty = torch.where(b.mask_BT, b.log_pf_BT.detach(), float("-inf")).requires_grad_()
    dirty_output = grpo_loss(dirty, torch.where(b.mask_BT, old, float("nan")), b.mask_BT, advantage)
    torch.testing.assert_close(dirty_output.loss, clean.loss)
    found, wanted = torch.autograd.grad(dirty_output.loss, dirty)[0], torch.autograd.grad(clean.loss, b.log_pf_BT)[0]
    torch.testing.assert_close(found, wanted)


def test_batch_is_the_union_of_its_rows(make_batch: Maker) -> None:
    b = make_batch(LENGTHS)
    old, _ = old_policy(b, 0.3)
    advantage = torch.linspace(-1, 1, len(LENGTHS), dtype=torch.float64)
    columns = (b.log_pf_BT, old, b.mask_BT, advantage)
    for aggregation in ("sequence", "token"):
        whole = grpo_loss(*columns, aggregation=aggregation)
        rows = [grpo_loss(*(c[r : r + 1] for c in columns), aggregation=aggregation) for r in range(len(LENGTHS))]
        torch.testing.assert_close(whole.sum, torch.stack([row.sum for row in rows]).sum())
        assert whole.weight.item() == sum(row.weight.item() for row in rows)


def test_advantages_of_equal_rewards_and_of_single_samples_are_zero() -> None:
    reward, group = torch.tensor([2.0, 2.0, 5.0, 1.0, 3.0]), torch.tensor([1, 1, 4, 8, 8])
    assert group_advantages(reward, group, scale="none").tolist() == [0.0, 0.0, 0.0, -1.0, 1.0]
    scaled = group_advantages(reward, group)
    assert scaled[:3].tolist() == [0.0, 0.0, 0.0]
    assert scaled[4].item() == pytest.approx(1 / (math.sqrt(2) + 1e-4))


@pytest.mark.parametrize(
    "plant", ["ratio inverted", "reward sign", "forced stop counted", "groups shifted", "padding counted"]
)
def test_planted_errors_are_caught(plant: str, make_batch: Maker) -> None:
    columns = grpo_columns(make_batch(LENGTHS, num_positions=9))
    objective = GRPO(clip_low=0.2, clip_high=0.3)
    expected = surrogate_loop(columns, LENGTHS, "std", "sequence")
    wrong = {
        "ratio inverted": {"log_pf_BT": columns["old_log_pf_BT"], "old_log_pf_BT": columns["log_pf_BT"]},
        "reward sign": {"log_reward_B": -columns["log_reward_B"]},
        "forced stop counted": {"forced_stop_B": torch.zeros_like(columns["forced_stop_B"])},
        "groups shifted": {"group_B": torch.tensor([0, 0, 1, 1, 2, 2])},
        "padding counted": {"mask_BT": torch.ones_like(columns["mask_BT"])},
    }[plant]
    assert (loss_of(objective, {**columns, **wrong}).loss - expected).abs() > 1e-3
