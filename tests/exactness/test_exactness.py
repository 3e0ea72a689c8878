"""Every GFlowNet objective, trained from scratch on samples, reaches R / Z within 0.02 total variation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.detailed_balance import DetailedBalance, ModifiedDetailedBalance
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad

TOLERANCE = 0.02
NUM_STEPS: Mapping[Objective, int] = {
    TrajectoryBalance(): 700,
    DetailedBalance(): 700,
    SubTB(): 700,
    ModifiedSubTB(): 700,
    ModifiedDetailedBalance(): 1000,
    VarGrad(): 700,
}
SLOW = pytest.mark.slow
REPLAY_BY_DEFAULT = {"TrajectoryBalance", "ModifiedSubTB", "VarGrad"}
CASES = [
    pytest.param(
        objective,
        behaviour,
        id=f"{type(objective).__name__}-{behaviour}",
        marks=()
        if behaviour == "on_policy" or (behaviour == "replay") == (type(objective).__name__ in REPLAY_BY_DEFAULT)
        else SLOW,
    )
    for objective in NUM_STEPS
    for behaviour in ("on_policy", "tempered", "replay")
]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Tiny tensors: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_task_is_not_trivial(toy_tree: Any) -> None:
    tree = toy_tree(4)
    assert tree.num_strings == 341 and toy_tree(5).num_strings == 1365
    uniform = torch.zeros(tree.num_inner, 5).log_softmax(1)
    assert tree.total_variation(uniform) > 0.5


def test_enumeration_agrees_with_the_proportional_policy_and_with_draws(toy_tree: Any) -> None:
    tree = toy_tree(4)
    log_flow_S = tree.log_reward_S.double().clone()
    for node in reversed(range(tree.num_inner)):
        children = log_flow_S[4 * node + 1 : 4 * node + 5]
        log_flow_S[node] = torch.cat([log_flow_S[node : node + 1], children]).logsumexp(0)
    assert log_flow_S[0].item() == pytest.approx(tree.log_z)
    inner = torch.arange(tree.num_inner)
    children_I4 = log_flow_S[4 * inner.unsqueeze(1) + 1 + torch.arange(4)]
    log_action = torch.cat([children_I4, tree.log_reward_S[inner].double().unsqueeze(1)], 1) - log_flow_S[
        inner
    ].unsqueeze(1)
    assert tree.total_variation(log_action) < 1e-6

    drawn = tree.sample(log_action, 200_000, 1.0, torch.Generator().manual_seed(0))
    frequency = torch.bincount(drawn, minlength=tree.num_strings) / len(drawn)
    target = (tree.log_reward_S - tree.log_z).exp()
    assert 0.5 * (frequency - target).abs().sum() < TOLERANCE
    columns = tree.columns(drawn[:500], log_action, log_flow_S, torch.tensor(tree.log_z))
    for objective in NUM_STEPS:
        assert objective(columns).loss.item() < 1e-9


@pytest.mark.parametrize(("objective", "behaviour"), CASES)
def test_341_strings(objective: Objective, behaviour: str, toy_tree: Any, train_toy: Callable[..., float]) -> None:
    steps = NUM_STEPS[objective] + (300 if behaviour == "replay" else 0)  # half of each batch is old
    distance = train_toy(toy_tree(4), objective, behaviour, num_steps=steps, batch_size=256, learning_rate=0.1)
    assert distance < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["on_policy", "tempered", "replay"])
@pytest.mark.parametrize("objective", NUM_STEPS, ids=lambda objective: type(objective).__name__)
def test_1365_strings(objective: Objective, behaviour: str, toy_tree: Any, train_toy: Callable[..., float]) -> None:
    distance = train_toy(toy_tree(5), objective, behaviour, num_steps=2000, batch_size=512, learning_rate=0.1)
    assert distance < TOLERANCE


def reward_sign(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Samples in proportion to 1 / R."""
    return {**columns, **{name: -columns[name] for name in ("log_reward_B", "log_reward_BT1")}}


def stop_forgotten(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves the stop out of every probability."""
    n_B1 = columns["mask_BT"].sum(1, keepdim=True)
    stop_B = columns["log_pstop_BT1"].gather(1, n_B1).squeeze(1)
    nothing_BT1 = torch.zeros_like(columns["log_pstop_BT1"])
    return {**columns, "log_pf_B": columns["log_pf_B"] - stop_B, "log_pstop_BT1": nothing_BT1}


def last_token_lost(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Counts one token too few in every trajectory, as an off-by-one mask does."""
    mask_BT = columns["mask_BT"]
    last_BT = mask_BT & ~torch.nn.functional.pad(mask_BT[:, 1:], (0, 1))
    lost_B = torch.where(last_BT, columns["log_pf_BT"], 0.0).sum(1)
    return {
        **columns,
        "log_pf_B": columns["log_pf_B"] - lost_B,
        "log_pf_BT": torch.where(last_BT, 0.0, columns["log_pf_BT"]),
    }


def nothing(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """No error: shows that the short budget below suffices."""
    return columns


@pytest.mark.parametrize(
    "plant", [nothing, reward_sign, stop_forgotten, last_token_lost], ids=lambda plant: plant.__name__
)
@pytest.mark.parametrize("objective", NUM_STEPS, ids=lambda objective: type(objective).__name__)
def test_planted_errors_miss_the_target(
    objective: Objective, plant: Callable[..., Any], toy_tree: Any, train_toy: Callable[..., float]
) -> None:
    distance = train_toy(
        toy_tree(2), objective, "on_policy", num_steps=250, batch_size=64, learning_rate=0.1, corrupt=plant
    )
    if plant is nothing:
        assert distance < TOLERANCE / 2
    else:
        assert distance > 2 * TOLERANCE
