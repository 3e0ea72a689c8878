"""PPO: a written loop over actions, ratio 1 as the policy gradient, clipping, padding, planted errors."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.stop_action import append_stop
from lightning_gfn.objectives.ppo import PPO, ppo_loss, value_loss
from lightning_gfn.types import LossOutput

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 0, 1, 8, 3, 4]
BETA = 0.2
OBJECTIVE = PPO(
    clip_low=0.2, clip_high=0.3, value_clip=0.25, value_coefficient=0.4, entropy_coefficient=0.05, gamma=0.97, lam=0.9
)


def ppo_columns(b: SimpleNamespace, spread: float = 0.3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(9)

    def near(x: Tensor) -> Tensor:
        return x.detach() + spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    return {
        **vars(b),
        "value_BT1": b.log_f_BT1,
        "entropy_BT1": b.entropy_BT1,
        "old_log_pf_BT": near(b.log_pf_BT),
        "old_log_pstop_BT1": near(b.log_pstop_BT1),
        "old_value_BT1": near(b.log_f_BT1),
        "ref_log_pf_BT": near(b.log_pf_BT) - 0.1,
        "ref_log_pstop_BT1": near(b.log_pstop_BT1) - 0.1,
        "kl_coefficient": torch.tensor(BETA, dtype=torch.float64),
    }


def batch_of(make_batch: Maker, **settings: int) -> SimpleNamespace:
    b = make_batch(LENGTHS, **settings)
    b.entropy_BT1 = b.log_reward_BT1.abs().clone().requires_grad_()
    return b


def loss_of(objective: PPO, columns: dict[str, Tensor]) -> LossOutput:
    return objective({**columns, **objective.prepare(columns)})


def ppo_loop(columns: dict[str, Tensor], lengths: list[int]) -> Tensor:
    """Everything action by action: rewards, recursive advantages, whitening, clipping, means."""
    rows = []
    for b, n in enumerate(lengths):
        free = not bool(columns["forced_stop_B"][b])

        def actions(name: str, b: int = b, n: int = n, free: bool = free) -> list[Tensor]:
            tokens = [columns[f"{name}log_pf_BT"][b, t] for t in range(n)]
            return [*tokens, columns[f"{name}log_pstop_BT1"][b, n]] if free else tokens

        new, old, ref = actions(""), actions("old_"), actions("ref_")
        reward = [-BETA * float(o - r) for o, r in zip(old, ref, strict=True)]
        if reward:
            reward[-1] += float(columns["log_reward_B"][b])
        old_value = [float(columns["old_value_BT1"][b, t]) for t in range(len(new))]
        advantage, later, value_after = [0.0] * len(new), 0.0, 0.0
        for t in reversed(range(len(new))):
            later = reward[t] + 0.97 * value_after - old_value[t] + 0.97 * 0.9 * later
            advantage[t], value_after = later, old_value[t]
        rows.append((b, new, old, advantage, old_value))
    flat = torch.tensor([a for row in rows for a in row[3]], dtype=torch.float64)
    mean, std = flat.mean(), flat.std()
    terms = []
    for b, new, old, advantage, old_value in rows:
        for t, raw in enumerate(advantage):
            a = ((raw - mean) / std).item()
            ratio = (new[t] - old[t]).exp()
            clipped = ratio if 0.8 <= ratio.item() <= 1.3 else ratio.detach().clamp(0.8, 1.3)
            policy = -min(ratio * a, clipped * a, key=lambda x: x.item())
            value, target = columns["value_BT1"][b, t], raw + old_value[t]
            moved = value - old_value[t]
            near = value if moved.abs().item() <= 0.25 else old_value[t] + moved.detach().clamp(-0.25, 0.25)
            error = max((value - target) ** 2, (near - target) ** 2, key=lambda x: x.item())
            terms.append(policy + 0.4 * 0.5 * error - 0.05 * columns["entropy_BT1"][b, t])
    return torch.stack(terms).mean()


def test_written_loop(make_batch: Maker) -> None:
    b = batch_of(make_batch, num_positions=9)
    columns = ppo_columns(b)
    output, expected = loss_of(OBJECTIVE, columns), ppo_loop(columns, LENGTHS)
    torch.testing.assert_close(output.loss, expected, atol=1e-7, rtol=1e-7)
    leaves = [b.log_pf_BT, b.log_pstop_BT1, b.log_f_BT1, b.entropy_BT1]
    for found, wanted in zip(
        torch.autograd.grad(output.loss, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-7)
        assert wanted.abs().sum() > 0
    for name in ("clip_fraction", "value_clip_fraction"):
        assert 0.0 < output.diagnostics[name] < 1.0


@pytest.mark.parametrize(
    "plant",
    ["reward sign", "KL sign", "stop left out", "padding counted", "ratio inverted", "next value"],
)
def test_planted_errors_are_caught(plant: str, make_batch: Maker) -> None:
    columns = ppo_columns(batch_of(make_batch, num_positions=9))
    wrong = {
        "reward sign": {"log_reward_B": -columns["log_reward_B"]},
        "KL sign": {"kl_coefficient": -columns["kl_coefficient"]},
        "stop left out": {"forced_stop_B": torch.ones_like(columns["forced_stop_B"])},
        "padding counted": {"mask_BT": torch.ones_like(columns["mask_BT"])},
        "ratio inverted": {"log_pf_BT": columns["old_log_pf_BT"], "old_log_pf_BT": columns["log_pf_BT"]},
        "next value": {"old_value_BT1": columns["old_value_BT1"].roll(-1, 1)},
    }[plant]
    assert (loss_of(OBJECTIVE, {**columns, **wrong}).loss - ppo_loop(columns, LENGTHS)).abs() > 1e-3


def test_ratio_one_is_the_policy_gradient(make_batch: Maker) -> None:
    b = batch_of(make_batch)
    columns = ppo_columns(b, spread=0.0)
    objective = PPO(whiten=False, lam=1.0)
    prepared = objective.prepare(columns)
    output = objective({**columns, **prepared})
    log_pf, actions = append_stop(b.log_pf_BT, b.log_pstop_BT1, b.mask_BT, b.forced_stop_B)
    expected = -(prepared["advantage_BT1"] * log_pf).sum() / actions.sum()
    for leaf in (b.log_pf_BT, b.log_pstop_BT1):
        wanted, found = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (expected, output.loss))
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
        assert found.abs().sum() > 0
    assert output.diagnostics["ratio_mean"].item() == pytest.approx(1.0)
    assert output.diagnostics["clip_fraction"].item() == output.diagnostics["value_clip_fraction"].item() == 0.0


def test_without_kl_every_return_is_the_reward(make_batch: Maker) -> None:
    columns = ppo_columns(batch_of(make_batch))
    prepared = PPO(kl="none", lam=1.0, gamma=1.0).prepare(columns)
    for b, n in enumerate(LENGTHS):
        count = n + (not bool(columns["forced_stop_B"][b]))
        assert prepared["return_BT1"][b, :count].tolist() == pytest.approx([float(columns["log_reward_B"][b])] * count)


def test_value_clipping_stops_only_moves_away_from_the_target() -> None:
    old, target = torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0])
    value = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    loss, removed = value_loss(value, old, target, 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), value)
    assert removed.tolist() == (gradient == 0).tolist() == [True, False, False, True]
    plain, _ = value_loss(value, old, target, None)
    torch.testing.assert_close(plain, 0.5 * (value - target) ** 2)


def test_gradcheck_and_padding(make_batch: Maker) -> None:
    b = batch_of(make_batch, num_positions=9)
    columns = ppo_columns(b)
    prepared = OBJECTIVE.prepare(columns)

    def loss(log_pf: Tensor, value: Tensor, entropy: Tensor) -> Tensor:
        live = {"log_pf_BT": log_pf, "value_BT1": value, "entropy_BT1": entropy}
        return OBJECTIVE({**columns, **prepared, **live}).loss

    assert torch.autograd.gradcheck(loss, (b.log_pf_BT, b.log_f_BT1, b.entropy_BT1))
    names = ("log_pf_BT", "old_log_pf_BT", "ref_log_pf_BT")
    dirty = {name: torch.where(b.mask_BT, columns[name].detach(), float("nan")) for name in names}
    padded, clean = loss_of(OBJECTIVE, {**columns, **dirty}), loss_of(OBJECTIVE, columns)
    torch.testing.assert_close(padded.loss, clean.loss)
    narrow = {
        name: column[:, : (9 if name.endswith("BT1") else 8)] if column.ndim == 2 else column
        for name, column in columns.items()
        if isinstance(column, Tensor)
    }
    torch.testing.assert_close(loss_of(OBJECTIVE, narrow).loss, clean.loss)


def test_batch_is_the_union_of_its_rows(make_batch: Maker) -> None:
    """Parts of a prepared rollout batch add up to the whole: sums and weights, not means."""
    columns = ppo_columns(batch_of(make_batch))
    columns = {name: column for name, column in columns.items() if name in OBJECTIVE.requires}
    columns |= OBJECTIVE.prepare(columns)
    whole = OBJECTIVE(columns)
    rows = [OBJECTIVE({k: c[r : r + 1] if c.ndim else c for k, c in columns.items()}) for r in range(len(LENGTHS))]
    torch.testing.assert_close(whole.sum, torch.stack([row.sum for row in rows]).sum())
    assert whole.weight.item() == sum(row.weight.item() for row in rows)


def test_wrong_arguments_are_named() -> None:
    x, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="return_BT has shape"):
        ppo_loss(x, x, mask, x, x, x, x[:, :-1])
    with pytest.raises(ValueError, match="clip_low is 2"):
        ppo_loss(x, x, mask, x, x, x, x, clip_low=2.0)
