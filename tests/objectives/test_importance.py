"""Importance weights for a sampler that differs from the trained policy: loops, limits, enumeration, planted errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.objectives.functional.importance import ImportanceSettings, importance_weights, weights_of
from lightning_gfn.objectives.gflowrl import GFlowRL
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.types import LossOutput

Maker = Callable[..., SimpleNamespace]
LENGTHS = [5, 2, 1, 8, 3, 4]
SETTINGS = [
    ImportanceSettings(cap=1.1),
    ImportanceSettings(cap=1.1, bound="mask"),
    ImportanceSettings(level="sequence", cap=1.3),
    ImportanceSettings(level="sequence", bound="mask", cap=1.5, reject="mean", reject_cap=1.05),
    ImportanceSettings(level="none", reject="max", reject_cap=1.25),
    ImportanceSettings(cap=math.inf, reject="mean", reject_cap=1.04),
]
FAMILY = {
    "grpo": {"clip_low": 0.2},
    "dr_grpo": {"advantage_scale": "none", "aggregation": "constant"},
    "dapo": {"clip_high": 0.28, "aggregation": "token", "drop_equal_groups": True, "overlong_share": 0.5},
    "gspo": {"ratio": "sequence", "clip_low": 0.05, "clip_high": 0.08},
    "rloo": {"ratio": "none", "baseline": "leave_one_out", "advantage_scale": "none", "aggregation": "sum"},
    "kl": {"kl": "k3"},
}


def columns_of(b: SimpleNamespace, gap: float = 0.15) -> dict[str, Tensor]:
    """Old, reference and sampler near the present policy; the value is its own."""
    generator = torch.Generator().manual_seed(4)

    def near(x: Tensor, spread: float) -> Tensor:
        return x.detach() + spread * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    columns = {**vars(b), "kl_coefficient": torch.tensor(0.3).double(), "max_length": torch.tensor(8)}
    for name in ("log_pf_BT", "log_pstop_BT1"):
        columns[f"old_{name}"] = near(getattr(b, name), 0.1)
        columns[f"ref_{name}"] = near(getattr(b, name), 0.1)
        columns[f"behaviour_{name}"] = near(columns[f"old_{name}"], gap)
    columns |= {"value_BT1": b.log_f_BT1, "old_value_BT1": near(b.log_f_BT1, 0.1)}
    return columns


def objectives_of(importance: ImportanceSettings | None) -> dict[str, Objective]:
    found: dict[str, Objective] = {
        name: GRPO(**settings, importance=importance)  # type: ignore[arg-type]
        for name, settings in FAMILY.items()
    }
    found["ppo"] = PPO(kl="none", whiten=False, importance=importance)
    if importance is None or importance.level != "token":
        found |= {"flowrl": FlowRL(importance=importance), "gflowrl": GFlowRL(importance=importance)}
        found["vargrad"] = FlowRL(log_z="vargrad", importance=importance)
    return found


def loss_of(objective: Objective, columns: dict[str, Tensor]) -> LossOutput:
    return objective({**columns, **objective.prepare(columns)})


def actions(columns: dict[str, Tensor], row: int, whose: str) -> list[float]:
    n = LENGTHS[row]
    tokens = columns[f"{whose}log_pf_BT"][row, :n].tolist()
    return tokens if columns["forced_stop_B"][row] else [*tokens, columns[f"{whose}log_pstop_BT1"][row, n].item()]


def loop(columns: dict[str, Tensor], importance: ImportanceSettings) -> list[tuple[list[float], bool]]:
    """For each trajectory the weights of its actions, and whether it counts."""
    found = []
    for row in range(len(LENGTHS)):
        old, behaviour = actions(columns, row, "old_"), actions(columns, row, "behaviour_")
        ratios = [math.exp(a - b) for a, b in zip(old, behaviour, strict=True)]
        product = math.prod(ratios)
        weights = []
        for ratio in ratios:
            weight = {"token": ratio, "sequence": product, "none": 1.0}[importance.level]
            if importance.bound == "truncate":
                weights.append(min(weight, importance.cap))
            else:
                weights.append(weight if 1 / importance.cap <= weight <= importance.cap else 0.0)
        inside = {
            "none": [1.0],
            "mean": [product ** (1 / len(ratios))],
            "max": ratios,
        }[importance.reject]
        cap = importance.reject_cap
        found.append((weights, all(1 / cap <= value <= cap for value in inside)))
    return found


@pytest.mark.parametrize("importance", SETTINGS, ids=repr)
def test_weights_are_the_written_loop(importance: ImportanceSettings, make_batch: Maker) -> None:
    columns = columns_of(make_batch(LENGTHS))
    weight_BT1, accepted_B, diagnostics = weights_of(columns, importance)
    expected = loop(columns, importance)
    for row, (weights, counts) in enumerate(expected):
        assert weight_BT1[row, : len(weights)].tolist() == pytest.approx(weights)
        assert bool(accepted_B[row]) == counts
    assert importance.reject == "none" or 0 < int(accepted_B.sum()) < len(LENGTHS)
    kept = [weight for weights, counts in expected if counts for weight in weights]
    everything = [weight for weights, _ in expected for weight in weights]
    masked = len(everything) - sum(weight > 0.0 for weight in kept)
    cut = sum(weight == importance.cap for weight in everything) if importance.bound == "truncate" else 0
    assert diagnostics["importance_log_mean"].item() == pytest.approx(math.log(sum(kept) / len(kept)))
    assert diagnostics["importance_masked"].item() == pytest.approx(masked / len(everything))
    assert diagnostics["importance_truncated"].item() == pytest.approx(cut / len(everything))


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gspo", "rloo"])
@pytest.mark.parametrize("importance", SETTINGS, ids=repr)
def test_losses_are_the_written_loop(name: str, importance: ImportanceSettings, make_batch: Maker) -> None:
    """The surrogate of each action times its weight; a rejected trajectory leaves sum and divisor."""
    objective = GRPO(**FAMILY[name], importance=importance)  # type: ignore[arg-type]
    columns = columns_of(make_batch(LENGTHS))
    prepared = objective.prepare(columns)
    total, trajectories, num_actions = 0.0, 0, 0
    for row, (weights, counts) in enumerate(loop(columns, importance)):
        if not (counts and prepared["keep_B"][row]):
            continue
        new, old = actions(columns, row, ""), actions(columns, row, "old_")
        if objective.ratio == "none":
            old = new
        log_ratios = [a - b for a, b in zip(new, old, strict=True)]
        if objective.ratio == "sequence":
            log_ratios = [sum(log_ratios) / len(log_ratios)] * len(log_ratios)
        advantage, own = prepared["advantage_B"][row].item(), 0.0
        for weight, log_ratio in zip(weights, log_ratios, strict=True):
            ratio = math.exp(log_ratio)
            clipped = min(max(ratio, 1 - objective.clip_low), 1 + objective.clip_high)
            own -= weight * min(ratio * advantage, clipped * advantage)
        divisor = {"sequence": len(weights), "constant": 8, "sum": 1, "token": 1}[objective.aggregation]
        total, trajectories, num_actions = total + own / divisor, trajectories + 1, num_actions + len(weights)
    expected = total / (num_actions if objective.aggregation == "token" else trajectories)
    assert loss_of(objective, columns).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("importance", SETTINGS, ids=repr)
def test_ppo_weights_the_policy_term_alone(importance: ImportanceSettings, make_batch: Maker) -> None:
    columns = columns_of(make_batch(LENGTHS))
    objective = PPO(kl="none", whiten=False, value_coefficient=0.3, importance=importance)
    prepared = objective.prepare(columns)
    total, count = 0.0, 0
    for row, (weights, counts) in enumerate(loop(columns, importance)):
        if not counts:
            continue
        new, old = actions(columns, row, ""), actions(columns, row, "old_")
        for t, weight in enumerate(weights):
            ratio, advantage = math.exp(new[t] - old[t]), prepared["advantage_BT1"][row, t].item()
            value, before = columns["value_BT1"][row, t].item(), columns["old_value_BT1"][row, t].item()
            target = prepared["return_BT1"][row, t].item()
            near = before + min(max(value - before, -0.2), 0.2)
            total -= weight * min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
            total += 0.3 * max((value - target) ** 2, (near - target) ** 2) / 2
            count += 1
    assert loss_of(objective, columns).loss.item() == pytest.approx(total / count)


@pytest.mark.parametrize("kind", [FlowRL, GFlowRL])
def test_flowrl_weights_trajectories(kind: type[FlowRL], make_batch: Maker) -> None:
    columns = columns_of(make_batch(LENGTHS))
    for importance in SETTINGS:
        if importance.level == "token":
            with pytest.raises(ValueError, match="importance.level is token.*set it to sequence"):
                kind(importance=importance)
            continue
        total, count = 0.0, 0
        for row, (weights, counts) in enumerate(loop(columns, importance)):
            single = {name: column[row : row + 1] if column.ndim else column for name, column in tensors(columns)}
            plain = kind(log_z="learned", reward_scale="none")
            total += counts * weights[0] * loss_of(plain, single).sum.item()
            count += counts
        found = loss_of(kind(log_z="learned", reward_scale="none", importance=importance), columns)
        assert found.loss.item() == pytest.approx(total / count)


def tensors(columns: dict[str, Any]) -> list[tuple[str, Tensor]]:
    return [(name, column) for name, column in columns.items() if isinstance(column, Tensor)]


@pytest.mark.parametrize("importance", SETTINGS, ids=repr)
def test_equal_samplers_change_no_bit(importance: ImportanceSettings, make_batch: Maker) -> None:
    b = make_batch(LENGTHS, dtype=torch.float32)
    columns = columns_of(b)
    columns |= {f"behaviour_{name}": columns[f"old_{name}"] for name in ("log_pf_BT", "log_pstop_BT1")}
    plain = objectives_of(None)
    for name, objective in objectives_of(importance).items():
        one, other = loss_of(objective, columns), loss_of(plain[name], columns)
        assert torch.equal(one.sum, other.sum) and torch.equal(one.weight, other.weight), name
        leaves = [b.log_pf_BT, b.log_pstop_BT1]
        for with_it, without in zip(
            torch.autograd.grad(one.sum, leaves, retain_graph=True),
            torch.autograd.grad(other.sum, leaves, retain_graph=True),
            strict=True,
        ):
            assert torch.equal(with_it, without), name
        assert set(one.diagnostics) - set(other.diagnostics) == {
            "importance_log_mean", "importance_truncated", "importance_masked"
        }  # fmt: skip
        assert one.diagnostics["importance_log_mean"] == one.diagnostics["importance_masked"] == 0.0


@pytest.mark.parametrize("plant", ["inverse", "no stop", "present policy", "no cap"])
def test_planted_errors_are_caught(plant: str, make_batch: Maker) -> None:
    columns, importance = columns_of(make_batch(LENGTHS)), ImportanceSettings(cap=1.1)
    wrong = dict(columns)
    if plant == "inverse":
        for name in ("log_pf_BT", "log_pstop_BT1"):
            wrong[f"old_{name}"], wrong[f"behaviour_{name}"] = columns[f"behaviour_{name}"], columns[f"old_{name}"]
    elif plant == "no stop":
        wrong["behaviour_log_pstop_BT1"] = columns["old_log_pstop_BT1"]
    elif plant == "present policy":
        wrong |= {f"old_{name}": columns[name].detach() for name in ("log_pf_BT", "log_pstop_BT1")}
    found, _, _ = weights_of(wrong, ImportanceSettings(cap=math.inf) if plant == "no cap" else importance)
    expected, _, _ = weights_of(columns, importance)
    assert (found - expected).abs().max() > 0.01


def enumerated(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All strings over two letters of at most three, under random tabular policies: log q of tokens and stops."""
    generator = torch.Generator().manual_seed(seed)
    strings = [s for n in range(4) for s in itertools.product((0, 1), repeat=n)]
    tables = {
        whose: {s: torch.randn(3, generator=generator, dtype=torch.float64).log_softmax(0) for s in strings}
        for whose in ("old_", "behaviour_")
    }
    columns = {"mask_BT": torch.tensor([[t < len(s) for t in range(3)] for s in strings])}
    columns["forced_stop_B"] = torch.tensor([len(s) == 3 for s in strings])
    for whose, table in tables.items():
        pf = [[table[s[:t]][s[t]] if t < len(s) else torch.zeros(()).double() for t in range(3)] for s in strings]
        pstop = [[table[s[:t]][2] if t <= len(s) else torch.zeros(()).double() for t in range(4)] for s in strings]
        columns[f"{whose}log_pf_BT"] = torch.tensor(pf)
        columns[f"{whose}log_pstop_BT1"] = torch.tensor(pstop)
    log_q = {
        whose: torch.tensor([
            sum(float(table[s[:t]][s[t]]) for t in range(len(s))) + (float(table[s][2]) if len(s) < 3 else 0.0)
            for s in strings
        ]).double()
        for whose, table in tables.items()
    }  # fmt: skip
    return columns, log_q


def test_unbounded_weights_of_trajectories_are_unbiased() -> None:
    """E over the sampler of w f = E over the old policy of f, for any f of trajectories; a cap or tokens alone err."""
    columns, log_q = enumerated(2)
    p_B, b_B = log_q["old_"].exp(), log_q["behaviour_"].exp()
    assert p_B.sum().item() == pytest.approx(1.0, abs=1e-6) and b_B.sum().item() == pytest.approx(1.0, abs=1e-6)
    f_B = torch.randn(len(p_B), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def error(importance: ImportanceSettings) -> float:
        weight_BT1, _, _ = weights_of(columns, importance)
        return float((b_B * weight_BT1[:, 0] * f_B).sum() - (p_B * f_B).sum())

    assert abs(error(ImportanceSettings(level="sequence", cap=math.inf))) < 1e-6
    assert abs(error(ImportanceSettings(level="sequence", cap=1.0))) > 0.01
    assert abs(error(ImportanceSettings(level="token", cap=math.inf))) > 0.01
    assert abs(float((b_B * f_B).sum() - (p_B * f_B).sum())) > 0.01


def test_ratios_of_any_size_stay_finite() -> None:
    old, mask = torch.full((2, 3), -0.1), torch.ones(2, 3, dtype=torch.bool)
    behaviour = torch.tensor([[-400.0, -0.1, -0.1], [-0.1, 400.0, -0.1]])
    for importance in SETTINGS[:5]:
        weight, accepted, diagnostics = importance_weights(old, behaviour, mask, importance)
        assert torch.isfinite(weight).all() and all(torch.isfinite(value) for value in diagnostics.values())
        assert importance.reject == "none" or not accepted.any()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"level": "word"}, "importance.level is 'word', expected one of token, sequence, none"),
        ({"bound": "clip"}, "importance.bound is 'clip'"),
        ({"reject": "sum"}, "importance.reject is 'sum'"),
        ({"cap": 0.5}, "importance.cap is 0.5, expected a number of at least 1"),
        ({"reject_cap": math.nan}, "importance.reject_cap is nan"),
        ({"level": "none"}, "importance.level is none and so is importance.reject"),
    ],
)
def test_wrong_settings_name_themselves(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ImportanceSettings(**settings)
