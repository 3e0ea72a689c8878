"""Problems chosen by log Z: what log Z says by enumeration, the choice by a written loop, and the module's batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import OptimizerSettings, UpdateSettings
from lightning_gfn.modules.training_batch.problem_selection import ProblemSelection, estimated_accuracy
from lightning_gfn.objectives.flowrl import FlowRL, flowrl_loss
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.heads import LogZHead, LogZScalar
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.types import Problem

REWARD = f"{__file__.replace('test_problem_selection', 'conftest')}:hashed_reward"
PACED: dict[str, Any] = {"prior": "old", "reward_scale": "none", "clip_low": 0.0, "clip_high": 0.0, "beta": 3.0}
RIGHT = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)


def best_log_z(new: Tensor, old: Tensor, beta: float) -> float:
    """Where the derivative of the expected loss over log Z is 0, every outcome weighted by its old probability."""
    found = []
    for start in (0.0, 1.0):  # the derivative is linear in log Z
        log_z = torch.full((5,), start, dtype=torch.float64, requires_grad=True)
        loss = flowrl_loss(
            new, old, old, torch.ones(5, dtype=torch.float64), log_z, RIGHT, beta=beta, clip_low=0.0, clip_high=0.0,
            importance_B=old.exp(),
        )  # fmt: skip
        found.append(float(torch.autograd.grad(loss.sum, log_z)[0].sum()))
    return -found[0] / (found[1] - found[0])


@pytest.mark.parametrize("beta", [0.5, 3.0, 15.0])
def test_log_z_is_the_accuracy_and_the_drift_of_the_policy(beta: float) -> None:
    generator = torch.Generator().manual_seed(1)
    old, new = torch.randn((2, 5), generator=generator, dtype=torch.float64).log_softmax(-1)
    accuracy, drift = float((old.exp() * RIGHT).sum()), float((old.exp() * (old - new)).sum())
    assert drift > 0.1
    assert best_log_z(new, old, beta) == pytest.approx(beta * accuracy + drift, abs=1e-9)
    on_policy = torch.tensor([best_log_z(old, old, beta)])
    assert float(FlowRL(**{**PACED, "beta": beta}).mean_reward(on_policy)) == pytest.approx(accuracy, abs=1e-6)


def test_the_choice_is_that_of_a_written_loop() -> None:
    generator = torch.Generator().manual_seed(4)
    for keep in (1, 3, 8, 20):
        accuracy = torch.rand(12, generator=generator).round(decimals=1).tolist()
        taken: list[int] = []
        while len(taken) < min(keep, 12):
            rest = [place for place in range(12) if place not in taken]
            best = min(abs(accuracy[place] - 0.4) for place in rest)
            taken.append(next(place for place in rest if abs(accuracy[place] - 0.4) == best))
        assert ProblemSelection(keep, 0.4).nearest(accuracy) == sorted(taken)


def problems(count: int) -> list[Problem]:
    return [Problem(id=f"p{n}", prompt="abcdabcdab"[n : n + 1 + n % 3], answer="1") for n in range(count)]


def make(make_policy: Any, selection: ProblemSelection | None, updates: int = 1, **changes: Any) -> Any:
    return GFlowNetModule(
        make_policy(), FlowRL(**PACED), FunctionReward(function=REWARD), head=LogZHead(detach=True), num_samples=4,
        optimizer=OptimizerSettings(lr=1e-2, head_lr=0.3), updates=UpdateSettings(num_epochs=updates),
        **{"selection": selection, **changes},
    )  # fmt: skip


def train(module: Any, make_trainer: Any, count: int, steps: int) -> tuple[list[list[str]], list[Any]]:
    """Problems of each rollout batch, and the statistics of each update."""
    sampled: list[list[str]] = []
    logged: list[Any] = []
    collect, log_output = module.collect, module.log_output
    module.collect = lambda batch: sampled.append([p.id for p in batch]) or collect(batch)
    module.log_output = lambda output, **values: logged.append(values) or log_output(output, **values)
    data: Any = problems(count) * 4
    make_trainer(steps).fit(module, DataLoader(data, batch_size=count, collate_fn=list))
    return sampled, logged


def test_the_nearest_problems_of_each_batch_are_sampled(make_policy: Any, make_trainer: Any) -> None:
    module = make(make_policy, ProblemSelection(3, 0.2))
    expected: list[list[str]] = []
    choose = module.collect

    def collect(batch: list[Problem]) -> Any:
        places = sorted(range(8), key=lambda n: abs(estimates[n] - 0.2))[:3]
        expected.append([f"p{n}" for n in sorted(places)])
        return choose(batch)

    estimates: list[float] = []
    hook = module.on_train_batch_start = lambda batch, index: estimates.__setitem__(
        slice(None), estimated_accuracy(module, batch).tolist()
    )
    module.collect = collect
    sampled, logged = train(module, make_trainer, 8, 4)
    assert hook is not None and sampled == expected and sampled[0] == ["p0", "p1", "p2"], "log Z begins at 0: all equal"
    assert any(ids != sampled[0] for ids in sampled[1:]), "the head learns, and the choice changes"
    for row in logged:
        assert math.isfinite(row["estimated_accuracy"]) and row["estimated_accuracy_error"] >= 0.0
    assert logged[0]["estimated_accuracy"] == 0.0


def test_a_choice_of_all_is_no_choice(make_policy: Any, make_trainer: Any) -> None:
    weights = []
    for selection in (None, ProblemSelection(5), ProblemSelection(50)):
        module = make(make_policy, selection)
        sampled, logged = train(module, make_trainer, 5, 3)
        assert sampled == [[f"p{n}" for n in range(5)]] * 3 and "estimated_accuracy" not in logged[0]
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_all_updates_on_a_rollout_batch_use_the_problems_that_were_chosen(make_policy: Any, make_trainer: Any) -> None:
    module = make(make_policy, ProblemSelection(2, 0.0), updates=2)
    ids = [f"p{n}" for n in range(6)]
    data: Any = problems(6)
    sampled: list[list[str]] = []
    collect = module.collect
    module.collect = lambda batch: sampled.append([p.id for p in batch]) or collect(batch)
    make_trainer(4).fit(module, DataLoader(data * 4, batch_size=6, collate_fn=list))
    assert len(sampled) == 2 and all(len(chosen) == 2 and set(chosen) <= set(ids) for chosen in sampled)


def test_what_cannot_choose_is_refused(make_policy: Any) -> None:
    reward, choice = FunctionReward(function=REWARD), ProblemSelection(4)
    for objective, head, match in (
        (VarGrad(), None, "chooses problems by a learned log Z"),
        (FlowRL(**{**PACED, "log_z": "group_mean"}), None, "chooses problems by a learned log Z"),
        (FlowRL(reward_scale="none"), LogZHead(), "only with prior: old"),
        (FlowRL(prior="old"), LogZScalar(), "reward_scale: none"),
    ):
        with pytest.raises(ValueError, match=match):
            GFlowNetModule(make_policy(), objective, reward, head=head, selection=choice)
    with pytest.raises(TypeError, match="takes no selection"):
        PolicyGradientModule(make_policy(), GRPO(), reward, selection=choice)
    for settings, match in (({"keep": 0}, "keep is 0"), ({"keep": 2, "target": 1.5}, "target is 1.5")):
        with pytest.raises(ValueError, match=match):
            ProblemSelection(**settings)  # type: ignore[arg-type]
