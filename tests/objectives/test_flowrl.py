"""FlowRL and GFlowRL: a written loop for every switch, limits, the noise control."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.flowrl import FlowRL, flowrl_loss, whole_log_probs
from lightning_gfn.objectives.functional.log_z import LOG_Z, noise_log_z
from lightning_gfn.objectives.gflowrl import GFlowRL
from lightning_gfn.objectives.trajectory_balance import tb_loss
from lightning_gfn.objectives.vargrad import vargrad_loss

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 0, 1, 8, 3, 4]
PLAIN: dict[str, Any] = {"length_normalise": False, "reward_scale": "none", "beta": 1.5}


def flow_columns(b: SimpleNamespace, spread: float = 0.1) -> dict[str, Tensor]:
    """Columns with an old policy and a reference near the present one."""
    generator = torch.Generator().manual_seed(9)

    def near(x: Tensor, width: float) -> Tensor:
        return x.detach() + width * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    old = {f"old_{name}": near(getattr(b, name), spread) for name in ("log_pf_BT", "log_pstop_BT1")}
    ref = {f"ref_{name}": near(getattr(b, name), 0.5) for name in ("log_pf_BT", "log_pstop_BT1")}
    return {**{k: v for k, v in vars(b).items() if isinstance(v, Tensor)}, **old, **ref}


def prepared(objective: FlowRL, columns: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**columns, **objective.prepare(columns)}


def sums(columns: dict[str, Tensor], lengths: list[int], prefix: str) -> list[Tensor]:
    """log q of each trajectory, one action after the other."""
    rows = []
    for b, n in enumerate(lengths):
        row = columns[f"{prefix}log_pf_BT"][b, :n].sum()
        rows.append(row if columns["forced_stop_B"][b] else row + columns[f"{prefix}log_pstop_BT1"][b, n])
    return rows


def written_loop(objective: FlowRL, columns: dict[str, Tensor], lengths: list[int]) -> Tensor:
    """The equations, one trajectory after the other."""
    reward, group = columns["log_reward_B"].tolist(), columns["group_B"].tolist()
    prior = {"reference": "ref_", "old": "old_"}[objective.prior]
    new, old, ref = (sums(columns, lengths, prefix) for prefix in ("", "old_", prior))
    peers = [[a for a, g in enumerate(group) if g == group[b]] for b in range(len(lengths))]
    divisor = [max(1, n + (not forced)) for n, forced in zip(lengths, columns["forced_stop_B"].tolist(), strict=True)]
    actions = list(divisor)
    if not objective.length_normalise:
        divisor = [1] * len(lengths)
    if objective.reward_scale == "group":
        mean = [statistics.mean(reward[a] for a in peers[b]) for b in range(len(lengths))]
        std = [statistics.stdev(reward[a] for a in peers[b]) for b in range(len(lengths))]
        reward = [(r - m) / (s + 1e-4) for r, m, s in zip(reward, mean, std, strict=True)]
    weight = [
        min(max((new[b] - old[b]).exp().item(), 1 - objective.clip_low), 1 + objective.clip_high)
        for b in range(len(lengths))
    ]
    total = torch.zeros((), dtype=torch.float64)
    for b in range(len(lengths)):
        own = {a: objective.beta * reward[a] - (old[a] - ref[a]).item() / divisor[a] for a in peers[b]}
        present = {a: objective.beta * reward[a] - (new[a] - ref[a]).item() / divisor[a] for a in peers[b]}
        log_z = {
            "learned": columns["log_z_B"][b],
            "group_mean": statistics.mean(own.values()),
            "vargrad": sum(weight[a] * v for a, v in present.items()) / sum(weight[a] for a in present),
            "noise": noise_log_z(torch.tensor([actions[a] for a in peers[b]]), torch.zeros(len(peers[b])))[0].item(),
        }[objective.log_z]
        gap = torch.as_tensor(log_z - own[b], dtype=torch.float64)
        if objective.gap_clip is not None and not -objective.gap_clip[0] <= gap.item() <= objective.gap_clip[1]:
            gap = gap.detach().clamp(-objective.gap_clip[0], objective.gap_clip[1])
        total = total + weight[b] * (gap + (new[b] - old[b]) / divisor[b]) ** 2
    return total / len(lengths)


@pytest.mark.parametrize("log_z", LOG_Z)
@pytest.mark.parametrize("length_normalise", [True, False])
@pytest.mark.parametrize(("kind", "gap_clip"), [(FlowRL, None), (GFlowRL, (1.0, 2.0))])
def test_written_loop(kind: type[FlowRL], gap_clip: Any, length_normalise: bool, log_z: Any, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    objective = kind(log_z=log_z, length_normalise=length_normalise, beta=1.5, gap_clip=gap_clip)
    columns = flow_columns(b)
    output, expected = objective(prepared(objective, columns)), written_loop(objective, columns, LENGTHS)
    torch.testing.assert_close(output.loss, expected, atol=1e-6, rtol=1e-6)
    leaves = [b.log_pf_BT, b.log_pstop_BT1] + [b.log_z_B] * (log_z == "learned")
    for found, wanted in zip(
        torch.autograd.grad(output.loss, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
    assert 1 - objective.clip_low < output.diagnostics["ratio_mean"] < 1 + objective.clip_high
    assert (output.diagnostics["gap_clip_fraction"] > 0) == (gap_clip is not None)


@pytest.mark.parametrize("log_z", LOG_Z)
def test_the_old_policy_as_prior_needs_no_reference(log_z: Any, make_batch: Maker) -> None:
    objective = FlowRL(log_z=log_z, prior="old", beta=1.5)
    columns = {name: x for name, x in flow_columns(make_batch(LENGTHS, num_positions=9)).items() if name[:4] != "ref_"}
    assert not any(name.startswith("ref_") for name in objective.requires)
    found = objective(prepared(objective, columns)).loss
    torch.testing.assert_close(found, written_loop(objective, columns, LENGTHS), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "plant",
    ["ratio inverted", "reward sign", "reference for old", "forced stop counted", "groups shifted", "padding counted",
     "clips exchanged", "no gap clip"],
)  # fmt: skip
def test_planted_errors_are_caught(plant: str, make_batch: Maker) -> None:
    columns = flow_columns(make_batch(LENGTHS, num_positions=9), spread=0.3)
    right = GFlowRL(clip_low=0.2, clip_high=0.4, gap_clip=(0.5, 1.0), beta=1.5)
    expected = written_loop(right, columns, LENGTHS)
    assert (right(prepared(right, columns)).loss - expected).abs() < 1e-9
    wrong = {
        "ratio inverted": {"log_pf_BT": columns["old_log_pf_BT"], "old_log_pf_BT": columns["log_pf_BT"]},
        "reward sign": {"log_reward_B": -columns["log_reward_B"]},
        "reference for old": {"old_log_pf_BT": columns["ref_log_pf_BT"]},
        "forced stop counted": {"forced_stop_B": torch.zeros_like(columns["forced_stop_B"])},
        "groups shifted": {"group_B": torch.tensor([0, 0, 1, 1, 2, 2])},
        "padding counted": {"mask_BT": torch.ones_like(columns["mask_BT"])},
    }.get(plant, {})
    objective = {
        "clips exchanged": GFlowRL(clip_low=0.4, clip_high=0.2, gap_clip=(0.5, 1.0), beta=1.5),
        "no gap clip": GFlowRL(clip_low=0.2, clip_high=0.4, gap_clip=None, beta=1.5),
    }.get(plant, right)
    assert (objective(prepared(objective, {**columns, **wrong})).loss - expected).abs() > 1e-3


@pytest.mark.parametrize("log_z", ["learned", "group_mean", "vargrad"])
def test_gradcheck_at_weight_one(log_z: Any, make_batch: Maker) -> None:
    b = make_batch([3, 0, 4, 2, 1, 2], num_positions=5)
    objective = FlowRL(log_z=log_z, clip_low=0.0, clip_high=0.0, beta=1.0)
    columns = prepared(objective, flow_columns(b))

    def loss(pf: Tensor, stop: Tensor, log_z_B: Tensor) -> Tensor:
        changed = {"log_pf_BT": pf, "log_pstop_BT1": stop}
        changed |= {"log_z_B": log_z_B} if log_z == "learned" else {}
        return objective({**columns, **changed}).loss

    assert torch.autograd.gradcheck(loss, (b.log_pf_BT, b.log_pstop_BT1, b.log_z_B))


@pytest.mark.parametrize("log_z", LOG_Z)
def test_values_beyond_the_end_do_not_matter(log_z: Any, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, num_positions=9)
    objective, columns = FlowRL(log_z=log_z), flow_columns(b)
    clean = objective(prepared(objective, columns)).loss
    dirty = dict(columns)
    for name in ("log_pf_BT", "old_log_pf_BT", "ref_log_pf_BT"):
        dirty[name] = torch.where(b.mask_BT, columns[name].detach(), float("-inf")).requires_grad_(name == "log_pf_BT")
    found = objective(prepared(objective, dirty)).loss
    torch.testing.assert_close(found, clean)
    torch.testing.assert_close(
        torch.autograd.grad(found, dirty["log_pf_BT"])[0], torch.autograd.grad(clean, b.log_pf_BT)[0]
    )
    cut = {k: v[:, : 8 + k.endswith("T1")] if k.endswith(("T", "T1")) else v for k, v in columns.items()}
    torch.testing.assert_close(objective(prepared(objective, cut)).loss, clean)


def test_statistics_of_whole_groups_survive_a_cut_into_minibatches(make_batch: Maker) -> None:
    columns = flow_columns(make_batch(LENGTHS))
    objective = GFlowRL()
    whole = prepared(objective, columns)
    halves = [objective({name: value[rows] for name, value in whole.items()}) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(half.sum for half in halves), objective(whole).sum)


# ---------------------------------------------------------------- limits


@pytest.fixture
def on_policy(make_batch: Maker) -> dict[str, Tensor]:
    """The old policy is the present one."""
    return flow_columns(make_batch(LENGTHS), spread=0.0)


def test_learned_without_length_normalisation_is_trajectory_balance(on_policy: dict[str, Tensor]) -> None:
    objective = FlowRL(**PLAIN)
    log_pf_B, ref_B = whole_log_probs(on_policy)[0], whole_log_probs(on_policy, "ref_")[0]
    expected = tb_loss(log_pf_B, on_policy["log_z_B"], 1.5 * on_policy["log_reward_B"] + ref_B).loss
    found = objective(prepared(objective, on_policy)).loss
    torch.testing.assert_close(found, expected)
    leaves = [on_policy[name] for name in ("log_pf_BT", "log_pstop_BT1", "log_z_B")]
    for pair in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("log_z", ["group_mean", "vargrad"])
def test_a_mean_over_the_group_is_vargrad(log_z: Any, on_policy: dict[str, Tensor]) -> None:
    """In value and gradient: the mean carries no gradient, which changes none, since residuals sum to 0."""
    objective = FlowRL(log_z=log_z, **PLAIN)
    log_pf_B, ref_B = whole_log_probs(on_policy)[0], whole_log_probs(on_policy, "ref_")[0]
    expected = vargrad_loss(log_pf_B, 1.5 * on_policy["log_reward_B"] + ref_B, on_policy["group_B"]).loss
    found = objective(prepared(objective, on_policy)).loss
    torch.testing.assert_close(found, expected)
    leaves = [on_policy[name] for name in ("log_pf_BT", "log_pstop_BT1")]
    for pair in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(*pair)


def test_the_two_means_part_after_the_first_update(make_batch: Maker) -> None:
    columns = flow_columns(make_batch(LENGTHS), spread=0.3)
    wide: dict[str, Any] = {"clip_low": 1.0, "clip_high": 9.0, **PLAIN}
    losses = [
        o(prepared(o, columns)).loss for o in (FlowRL(log_z="group_mean", **wide), FlowRL(log_z="vargrad", **wide))
    ]
    assert losses[0] > losses[1] + 1e-3


@pytest.mark.parametrize("log_z", ["learned", "group_mean"])
def test_without_clipping_the_gap_gflowrl_is_flowrl(log_z: Any, make_batch: Maker) -> None:
    columns = flow_columns(make_batch(LENGTHS))
    pair = (GFlowRL(log_z=log_z, gap_clip=None), FlowRL(log_z=log_z, beta=8.0, clip_low=1.0, reward_scale="none"))
    torch.testing.assert_close(*(objective(prepared(objective, columns)).loss for objective in pair))


def test_a_clipped_gap_bounds_the_step_and_leaves_the_policy_its_gradient() -> None:
    log_pf = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    log_z = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    zeros, ones = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    reward = torch.tensor([10.0, -10.0], dtype=torch.float64)
    loss = flowrl_loss(log_pf, zeros, zeros, ones, log_z, reward, beta=1.0, gap_clip=(2.0, 3.0)).loss
    to_policy, to_log_z = torch.autograd.grad(loss, [log_pf, log_z])
    assert to_policy.tolist() == [-2.0, 3.0] and to_log_z.tolist() == [0.0, 0.0]


# ---------------------------------------------------------------- the noise control


def test_noise_is_normal_around_one_half_and_one_draw_a_group() -> None:
    generator = torch.Generator().manual_seed(0)
    length_B = torch.randint(10, 60, (16000,), generator=generator)
    draws = noise_log_z(length_B, torch.arange(4000).repeat_interleave(4)).reshape(4000, 4)
    assert torch.equal(draws, draws[:, :1].expand(-1, 4))
    assert draws[:, 0].mean().item() == pytest.approx(0.5, abs=0.06)
    assert draws[:, 0].std().item() == pytest.approx(1.0, abs=0.05)
    for quantile in (0.1, 0.5, 0.9):
        below = (draws[:, 0] < statistics.NormalDist(0.5, 1.0).inv_cdf(quantile)).float().mean().item()
        assert below == pytest.approx(quantile, abs=0.03)


def test_noise_depends_on_the_samples_alone() -> None:
    length_B, group_B = torch.tensor([5, 9, 5, 8, 7, 7]), torch.tensor([0, 1, 0, 1, 2, 2])
    state = torch.get_rng_state()
    draws = noise_log_z(length_B, group_B)
    assert torch.equal(torch.get_rng_state(), state)
    part = noise_log_z(length_B[:4], group_B[:4] + 17)
    assert torch.equal(draws[:4], part) and len(set(draws.tolist())) == 3
    assert not torch.isclose(noise_log_z(length_B + 1, group_B), draws).any()


def test_columns_follow_the_switch() -> None:
    for log_z in LOG_Z:
        assert ("log_z_B" in FlowRL(log_z=log_z).requires) == (log_z == "learned")
    assert "group_B" not in FlowRL(**PLAIN).requires
    assert {"group_B", "ref_log_pf_BT", "old_log_pstop_BT1"} <= GFlowRL().requires


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"beta": -1.0}, "beta"), ({"gap_clip": (1.0, -2.0)}, "gap_clip"), ({"clip_low": 1.5}, "clip_low"),
     ({"log_z": "zero"}, "log_z"), ({"reward_scale": "batch"}, "reward_scale")],
)  # fmt: skip
def test_a_wrong_setting_names_itself(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is "):
        FlowRL(**settings)
