"""Each relative of GRPO against its own formula, written as a loop over trajectories and actions."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.advantages import group_advantages, in_mixed_group, overlong_penalty
from lightning_gfn.objectives.grpo import GRPO, grpo_loss
from lightning_gfn.types import LossOutput

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 2, 1, 8, 3, 4, 7, 6, 8]
L, BETA = 8, 0.3

PRESETS = {
    "grpo_kl": GRPO(kl="k3"),
    "dr_grpo": GRPO(advantage_scale="none", aggregation="constant"),
    "dapo": GRPO(clip_high=0.28, aggregation="token", drop_equal_groups=True, overlong_share=0.5),
    "dapo_filter": GRPO(clip_high=0.28, aggregation="token", drop_truncated=True),
    "gspo": GRPO(ratio="sequence", clip_low=0.05, clip_high=0.08),
    "rloo": GRPO(ratio="none", baseline="leave_one_out", advantage_scale="none", aggregation="sum", kl="reward"),
}


def family_columns(b: SimpleNamespace, spread: float = 0.3) -> dict[str, Tensor]:
    """Old and reference policies near the present one; group 8 has equal rewards; length 8 is the maximum."""
    generator = torch.Generator().manual_seed(9)

    def near(x: Tensor) -> Tensor:
        return x.detach() + spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    reward = torch.where(b.group_B == 8, 1.0, b.log_reward_B)
    return {
        **vars(b),
        "log_reward_B": reward,
        "forced_stop_B": torch.tensor([n == L for n in b.lengths]),
        "old_log_pf_BT": near(b.log_pf_BT),
        "old_log_pstop_BT1": near(b.log_pstop_BT1),
        "ref_log_pf_BT": near(b.log_pf_BT),
        "ref_log_pstop_BT1": near(b.log_pstop_BT1),
        "kl_coefficient": torch.tensor(BETA, dtype=torch.float64),
        "max_length": torch.tensor(L),
    }


def actions(columns: dict[str, Tensor], row: int, whose: str) -> list[Tensor]:
    n = LENGTHS[row]
    tokens = [columns[f"{whose}log_pf_BT"][row, t] for t in range(n)]
    return tokens if columns["forced_stop_B"][row] else [*tokens, columns[f"{whose}log_pstop_BT1"][row, n]]


def rewards(columns: dict[str, Tensor]) -> list[float]:
    return [float(r) for r in columns["log_reward_B"]]


def advantages(reward: list[float], group: list[int], *, std: bool, leave_one_out: bool = False) -> list[float]:
    found = []
    for b, own in enumerate(reward):
        others = [r for i, r in enumerate(reward) if group[i] == group[b] and i != b]
        peers = others if leave_one_out else [*others, own]
        scale = statistics.stdev([*others, own]) + 1e-4 if std else 1.0
        found.append((own - statistics.mean(peers)) / scale)
    return found


def surrogate(ratio: Tensor, advantage: float, low: float, high: float) -> Tensor:
    value = ratio.item()
    clipped = ratio if low <= value <= high else torch.tensor(min(max(value, low), high), dtype=torch.float64)
    return -min(ratio * advantage, clipped * advantage, key=lambda x: x.item())


def loop(name: str, columns: dict[str, Tensor]) -> Tensor:
    """The loss of the named method."""
    group = columns["group_B"].tolist()
    reward = rewards(columns)
    rows = range(len(LENGTHS))
    new = [actions(columns, b, "") for b in rows]
    old = [actions(columns, b, "old_") for b in rows]
    ref = [actions(columns, b, "ref_") for b in rows]
    ratios = [[(q - o).exp() for q, o in zip(new[b], old[b], strict=True)] for b in rows]
    zero = torch.zeros((), dtype=torch.float64)
    if name == "grpo_kl":
        advantage = advantages(reward, group, std=True)
        per_row = []
        for b in rows:
            kl = [(r - q).exp() - (r - q) - 1 for q, r in zip(new[b], ref[b], strict=True)]
            losses = [surrogate(x, advantage[b], 0.8, 1.2) + BETA * k for x, k in zip(ratios[b], kl, strict=True)]
            per_row.append(sum(losses, zero) / len(losses))
        return sum(per_row, zero) / len(per_row)
    if name == "dr_grpo":
        advantage = advantages(reward, group, std=False)
        return sum((surrogate(x, advantage[b], 0.8, 1.2) / L for b in rows for x in ratios[b]), zero) / len(LENGTHS)
    if name == "dapo":
        shaped = [r + min(0.0, (L - 4 - LENGTHS[b]) / 4) for b, r in enumerate(reward)]
        advantage = advantages(shaped, group, std=True)
        kept = [b for b in rows if len({reward[i] for i in rows if group[i] == group[b]}) > 1]
        losses = [surrogate(x, advantage[b], 0.8, 1.28) for b in kept for x in ratios[b]]
        return sum(losses, zero) / len(losses)
    if name == "dapo_filter":
        advantage = advantages(reward, group, std=True)
        losses = [surrogate(x, advantage[b], 0.8, 1.28) for b in rows if LENGTHS[b] < L for x in ratios[b]]
        return sum(losses, zero) / len(losses)
    if name == "gspo":
        advantage = advantages(reward, group, std=True)
        whole = [torch.stack(ratios[b]).prod() ** (1 / len(ratios[b])) for b in rows]
        return sum((surrogate(whole[b], advantage[b], 0.95, 1.08) for b in rows), zero) / len(LENGTHS)
    shaped = [reward[b] - BETA * float(sum(old[b], zero) - sum(ref[b], zero)) for b in rows]
    advantage = advantages(shaped, group, std=False, leave_one_out=True)
    return -sum((advantage[b] * sum(new[b], zero) for b in rows), zero) / len(LENGTHS)


def loss_of(objective: GRPO, columns: dict[str, Tensor]) -> LossOutput:
    return objective({**columns, **objective.prepare(columns)})


@pytest.mark.parametrize("name", PRESETS)
def test_written_loop(name: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    columns = family_columns(b)
    output, expected = loss_of(PRESETS[name], columns), loop(name, columns)
    if name != "rloo":  # whose value is that of -A: only its gradient means something
        torch.testing.assert_close(output.loss, expected, atol=1e-9, rtol=1e-9)
    leaves = [b.log_pf_BT, b.log_pstop_BT1]
    for found, wanted in zip(
        torch.autograd.grad(output.loss, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)
        assert wanted.abs().sum() > 0
    if name != "rloo":
        assert 0.0 < output.diagnostics["clip_fraction"] < 1.0
    torch.testing.assert_close(
        output.diagnostics["kept_fraction"].item(), {"dapo": 6, "dapo_filter": 7}.get(name, 9) / 9
    )


@pytest.mark.parametrize("name", PRESETS)
def test_gradcheck_and_padding(name: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    columns = family_columns(b)
    if name == "rloo":
        columns = {**columns, "old_log_pf_BT": b.log_pf_BT.detach(), "old_log_pstop_BT1": b.log_pstop_BT1.detach()}
    objective = PRESETS[name]
    prepared = objective.prepare(columns)
    if name != "rloo":  # finite differences would see through its detached ratio
        assert torch.autograd.gradcheck(
            lambda pf, stop: objective({**columns, **prepared, "log_pf_BT": pf, "log_pstop_BT1": stop}).loss,
            (b.log_pf_BT, b.log_pstop_BT1),
        )
    dirty = {
        key: torch.where(b.mask_BT, columns[key].detach(), float("nan"))
        for key in ("log_pf_BT", "old_log_pf_BT", "ref_log_pf_BT")
    }
    dirty["log_pf_BT"].requires_grad_()
    padded = loss_of(objective, {**columns, **dirty})
    clean = loss_of(objective, columns)
    torch.testing.assert_close(padded.loss, clean.loss)
    found, wanted = (torch.autograd.grad(o.loss, x)[0] for o, x in ((padded, dirty["log_pf_BT"]), (clean, b.log_pf_BT)))
    torch.testing.assert_close(found, wanted)


PLANTS = {
    "grpo_kl": ("kl_coefficient", lambda x: -x),
    "dr_grpo": ("max_length", lambda x: x + 4),
    "dapo": ("group_B", lambda x: torch.where(x == 8, 7, x)),
    "dapo_filter": ("forced_stop_B", torch.zeros_like),
    "gspo": ("old_log_pf_BT", lambda x: 2 * x),
    "rloo": ("ref_log_pf_BT", lambda x: -x),
}


@pytest.mark.parametrize("name", PRESETS)
def test_planted_errors_are_caught(name: str, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    columns = family_columns(b)
    key, spoil = PLANTS[name]
    wrong = loss_of(PRESETS[name], {**columns, key: spoil(columns[key])})
    expected = loop(name, columns)
    wanted, found = (torch.autograd.grad(loss, b.log_pf_BT)[0] for loss in (expected, wrong.loss))
    assert (found - wanted).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "other"), [("dr_grpo", "grpo_kl"), ("dapo", "dapo_filter"), ("gspo", "dr_grpo")])
def test_methods_differ(name: str, other: str, make_batch: Maker) -> None:
    columns = family_columns(make_batch(LENGTHS, num_positions=9))
    assert (loss_of(PRESETS[name], columns).loss - loop(other, columns)).abs() > 1e-3


def test_sequence_ratio_is_clipped_as_a_whole(make_batch: Maker) -> None:
    """A trajectory whose mean log-ratio leaves the range gets no gradient at any action, whatever single ratios are."""
    log_pf = torch.tensor([[0.5, -0.1]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    for advantage, moves in ((1.0, False), (-1.0, True)):
        output = grpo_loss(log_pf, torch.zeros(1, 2), mask, torch.tensor([advantage]), ratio="sequence")
        (gradient,) = torch.autograd.grad(output.loss, log_pf)
        assert (gradient.abs() > 0).tolist() == [[moves, moves]]
    token = grpo_loss(log_pf, torch.zeros(1, 2), mask, torch.tensor([1.0]))
    assert (torch.autograd.grad(token.loss, log_pf)[0].abs() > 0).tolist() == [[False, True]]


def test_leave_one_out_is_the_scaled_group_advantage() -> None:
    reward, group = torch.tensor([2.0, 2.5, 5.0, 1.0, 3.0, -1.0]), torch.tensor([1, 1, 4, 8, 8, 8])
    found = group_advantages(reward, group, scale="none", baseline="leave_one_out")
    assert found.tolist() == pytest.approx([-0.5, 0.5, 0.0, 0.0, 3.0, -3.0])
    centred = group_advantages(reward, group, scale="none")
    torch.testing.assert_close(found[3:], 1.5 * centred[3:])


def test_mixed_groups() -> None:
    reward, group = torch.tensor([1.0, 0.0, 1.0, 0.0, -5.0, -5.0]), torch.tensor([3, 9, 3, 3, 9, 7])
    assert in_mixed_group(reward, group).tolist() == [True, True, True, True, True, False]
    assert in_mixed_group(-reward.abs() - 1, torch.zeros_like(group)).all()


def test_overlong_penalty_is_the_written_formula() -> None:
    lengths = torch.tensor([0, 16384, 16385, 18432, 20480])
    found = overlong_penalty(lengths, torch.tensor(20480), 0.2)
    assert found.tolist() == pytest.approx([0.0, 0.0, -1 / 4096, -0.5, -1.0], abs=1e-6)
    with pytest.raises(ValueError, match="share is 0"):
        overlong_penalty(lengths, 20480, 0.0)


def test_nothing_kept_is_a_zero_with_a_graph(make_batch: Maker) -> None:
    columns = family_columns(make_batch(LENGTHS, num_positions=9))
    equal = {**columns, "log_reward_B": torch.ones_like(columns["log_reward_B"])}
    output = loss_of(GRPO(drop_equal_groups=True), equal)
    assert output.loss.item() == 0.0 and output.weight.item() == 0.0 and output.sum.requires_grad
