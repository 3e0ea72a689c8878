"""CISPO, Clip-Cov and KL-Cov against written loops, their limits, and what padding or another batch may change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.stop_action import actions_of
from lightning_gfn.objectives.grpo import GRPO, grpo_loss
from lightning_gfn.objectives.surrogates.base import ActionTerms
from lightning_gfn.objectives.surrogates.cispo import Cispo
from lightning_gfn.objectives.surrogates.covariance import ClipCov, KLCov, covariances, num_chosen
from lightning_gfn.types import LossOutput

Columns = dict[str, Tensor]
Loss = Callable[..., LossOutput]
LEAVES = ("log_pf_BT", "log_pstop_BT1")
CLIP = {"clip_low": 0.2, "clip_high": 0.28}


def parts(objective: GRPO, columns: Columns) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log q, log q_old, the mask of actions and the advantage of each, (B, T + 1)."""
    log_q, mask = actions_of(columns, "")
    advantage = objective.prepare(columns)["advantage_B"][:, None].expand(log_q.shape)
    return log_q, actions_of(columns, "old_")[0], mask, advantage


def same_gradients(found: Tensor, expected: Tensor, columns: Columns) -> None:
    leaves = [columns[name] for name in LEAVES]
    pairs = zip(*(torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (found, expected)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
        assert one.abs().sum() > 0


def test_cispo_is_a_policy_gradient_with_clipped_weights(grpo_columns: Columns, loss_of: Loss) -> None:
    objective = GRPO(surrogate=Cispo(), aggregation="token", **CLIP)
    log_q, old, mask, advantage = parts(objective, grpo_columns)
    terms = []
    for b, t in mask.nonzero().tolist():
        weight = min(max((log_q[b, t] - old[b, t]).exp().item(), 0.8), 1.28)
        terms.append(-weight * advantage[b, t].item() * log_q[b, t])
    expected = torch.stack(terms).mean()
    output = loss_of(objective, grpo_columns)
    torch.testing.assert_close(output.loss, expected, atol=1e-10, rtol=1e-10)
    same_gradients(output.loss, expected, grpo_columns)
    assert 0 < output.diagnostics["clip_fraction"] < 1


def test_cispo_loses_no_action_where_clipping_does(loss_of: Loss) -> None:
    log_q = torch.tensor([[0.7]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    for surrogate, gradient in ((None, 0.0), (Cispo(), -1.2)):
        loss = grpo_loss(log_q, torch.zeros(1, 1), mask, torch.ones(1), surrogate=surrogate).loss
        assert torch.autograd.grad(loss, log_q)[0].item() == pytest.approx(gradient)


def test_at_ratio_one_cispo_and_kl_cov_are_the_policy_gradient(grpo_columns: Columns, loss_of: Loss) -> None:
    columns = {**grpo_columns, **{f"old_{name}": grpo_columns[name].detach() for name in LEAVES}}
    expected = loss_of(GRPO(ratio="none"), columns).loss
    for surrogate in (Cispo(), KLCov(share=0.5)):
        same_gradients(loss_of(GRPO(surrogate=surrogate), columns).loss, expected, columns)


def covariance_loop(log_q: Tensor, advantage: Tensor, mask: Tensor) -> dict[tuple[int, int], float]:
    places = [tuple(place) for place in mask.nonzero().tolist()]
    mean_q = sum(log_q[p].item() for p in places) / len(places)
    mean_a = sum(advantage[p].item() for p in places) / len(places)
    return {p: (log_q[p].item() - mean_q) * (advantage[p].item() - mean_a) for p in places}


def test_covariances_add_up_to_the_covariance(grpo_columns: Columns) -> None:
    log_q, _, mask, advantage = parts(GRPO(), grpo_columns)
    found = covariances(log_q, advantage, mask)
    loop = covariance_loop(log_q, advantage, mask)
    for place, value in loop.items():
        assert found[place].item() == pytest.approx(value)
    pairs = torch.stack([log_q[mask].detach(), advantage[mask]])
    assert sum(loop.values()) / len(loop) == pytest.approx(torch.cov(pairs, correction=0)[0, 1].item())


def test_kl_cov_penalises_the_highest_covariances(grpo_columns: Columns, loss_of: Loss) -> None:
    objective = GRPO(surrogate=KLCov(share=0.2, coefficient=0.7), aggregation="token")
    log_q, old, mask, advantage = parts(objective, grpo_columns)
    covariance = covariance_loop(log_q, advantage, mask)
    highest = sorted(covariance, key=lambda p: -covariance[p])[: int(0.2 * len(covariance))]
    terms = []
    for place in covariance:
        log_ratio = log_q[place] - old[place]
        terms.append(-log_ratio.exp() * advantage[place] + (0.7 * log_ratio.abs() if place in highest else 0.0))
    expected = torch.stack(terms).mean()
    output = loss_of(objective, grpo_columns)
    torch.testing.assert_close(output.loss, expected, atol=1e-10, rtol=1e-10)
    same_gradients(output.loss, expected, grpo_columns)
    assert output.diagnostics["clip_fraction"].item() == pytest.approx(len(highest) / len(covariance))


def drawn_by(surrogate: ClipCov, objective: GRPO, columns: Columns) -> tuple[set[tuple[int, int]], Tensor]:
    """Places whose loss is 0 though they are actions with an advantage, and the losses."""
    log_q, old, mask, advantage = parts(objective, columns)
    loss, _ = surrogate(ActionTerms(log_q, log_q - old, advantage, mask, **CLIP))
    places = (mask & (loss == 0.0) & (advantage != 0.0)).nonzero().tolist()
    return {tuple(place) for place in places}, loss


def test_clip_cov_leaves_out_a_few_of_the_band(grpo_columns: Columns, loss_of: Loss) -> None:
    surrogate = ClipCov(share=0.05, low=0.1, high=0.9)
    objective = GRPO(surrogate=surrogate, aggregation="token", **CLIP)
    log_q, old, mask, advantage = parts(objective, grpo_columns)
    covariance = covariance_loop(log_q, advantage, mask)
    drawn, _ = drawn_by(surrogate, objective, grpo_columns)
    band, terms = set(), []
    for place, value in covariance.items():
        ratio = (log_q[place] - old[place]).exp()
        unclipped, clipped = ratio * advantage[place], ratio.clamp(0.8, 1.28) * advantage[place]
        if 0.1 < value < 0.9 and not clipped < unclipped:
            band.add(place)
        terms.append(torch.zeros_like(ratio) if place in drawn else -torch.minimum(unclipped, clipped))
    assert drawn < band and len(drawn) == int(0.05 * len(covariance)) >= 2
    assert drawn_by(ClipCov(share=1.0, low=0.1, high=0.9), objective, grpo_columns)[0] == band, "no clipped action"
    output = loss_of(objective, grpo_columns)
    torch.testing.assert_close(output.loss, torch.stack(terms).mean(), atol=1e-10, rtol=1e-10)
    plain = loss_of(GRPO(aggregation="token", **CLIP), grpo_columns)
    more = output.diagnostics["clip_fraction"] - plain.diagnostics["clip_fraction"]
    assert more.item() == pytest.approx(len(drawn) / len(covariance))


def test_the_draw_repeats_ignores_padding_and_covers_the_band(grpo_columns: Columns) -> None:
    surrogate = ClipCov(share=0.05, low=0.1, high=0.9)
    objective = GRPO(**CLIP)
    first, _ = drawn_by(surrogate, objective, grpo_columns)
    assert drawn_by(surrogate, objective, grpo_columns)[0] == first
    ends = dict.fromkeys(("log_pf_BT", "old_log_pf_BT", "log_pstop_BT1", "old_log_pstop_BT1", "mask_BT"), 1)
    wider = {
        name: torch.nn.functional.pad(value, (0, 3)) if name in ends else value for name, value in grpo_columns.items()
    }
    assert drawn_by(surrogate, objective, wider)[0] == first
    seen = set(first)
    for step in range(60):
        moved = {**grpo_columns, "old_log_pf_BT": grpo_columns["old_log_pf_BT"]}
        moved["log_pf_BT"] = grpo_columns["log_pf_BT"].detach() * (1.0 - 1e-6 * step)
        seen |= drawn_by(surrogate, objective, moved)[0]
    assert len(seen) > 2 * len(first), "other log-probabilities draw other actions"


def test_trajectories_left_out_count_in_no_mean(grpo_columns: Columns, loss_of: Loss) -> None:
    """Dropped groups change neither which actions are held back nor the loss of the others."""
    columns = {**grpo_columns, "log_reward_B": grpo_columns["log_reward_B"].clone()}
    columns["log_reward_B"][columns["group_B"] == 9] = 1.0
    kept = columns["group_B"] != 9
    fewer = {name: value[kept] if value.dim() else value for name, value in columns.items()}
    for surrogate in (KLCov(share=0.2), ClipCov(share=0.05, low=0.1, high=0.9)):
        objective = GRPO(surrogate=surrogate, drop_equal_groups=True)
        torch.testing.assert_close(loss_of(objective, columns).loss, loss_of(objective, fewer).loss)


def test_entropy_bonus_is_the_mean_entropy(grpo_columns: Columns, loss_of: Loss) -> None:
    for aggregation in ("sequence", "token"):
        plain = loss_of(GRPO(aggregation=aggregation), grpo_columns)
        output = loss_of(GRPO(aggregation=aggregation, entropy_bonus=True), grpo_columns)
        mask = actions_of(grpo_columns, "")[1]
        entropy = torch.where(mask, grpo_columns["entropy_BT1"], 0.0)
        mean = (entropy.sum(1) / mask.sum(1)).mean() if aggregation == "sequence" else entropy.sum() / mask.sum()
        torch.testing.assert_close(output.loss, plain.loss - 0.3 * mean)
    assert {"entropy_BT1", "entropy_coefficient"} <= GRPO(entropy_bonus=True).requires
    assert not {"entropy_BT1", "entropy_coefficient"} & GRPO().requires


def test_settings_that_mean_nothing_are_refused() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert (num_chosen(0.5, mask), num_chosen(1e-4, mask)) == (3, 1)
    with pytest.raises(ValueError, match="surrogate.share is 0"):
        KLCov(share=0.0)
    with pytest.raises(ValueError, match="low must be below high"):
        ClipCov(low=2.0, high=1.0)
    with pytest.raises(ValueError, match="surrogate Cispo reads the ratio of each action.*set ratio to token"):
        GRPO(surrogate=Cispo(), ratio="sequence")
