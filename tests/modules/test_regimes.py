"""Objectives in modules that are not meant for them, and settings under which nothing would be learned."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
import torch

from lightning_gfn import objectives
from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import KLControl, OptimizerSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.likelihood import Likelihood
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.preference import DPO
from lightning_gfn.objectives.regimes import served_by
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.heads import LogZScalar
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.types import Rollouts, StepBatch

Build = Callable[[Any, Objective], Any]


def of_rollouts(kind: type[RolloutModule], **settings: Any) -> Build:
    return lambda policy, objective: kind(policy, objective, AnswerMatch(), **settings)


@pytest.mark.parametrize(
    ("build", "objective", "module", "instead"),
    [
        (of_rollouts(RolloutModule), Likelihood(), "RolloutModule", "sft.SFTModule"),
        (of_rollouts(RolloutModule), DPO(), "RolloutModule", "preference.PreferenceModule"),
        (of_rollouts(GFlowNetModule), GRPO(), "GFlowNetModule", "policy_gradient.PolicyGradientModule"),
        (of_rollouts(GFlowNetModule), PPO(), "GFlowNetModule", "policy_gradient.PolicyGradientModule"),
        (of_rollouts(PolicyGradientModule), VarGrad(), "PolicyGradientModule", "gflownet.GFlowNetModule"),
        (
            of_rollouts(PolicyGradientModule, head=LogZScalar()), TrajectoryBalance(), "PolicyGradientModule",
            "gflownet.GFlowNetModule",
        ),
        (SFTModule, DPO(), "SFTModule", "preference.PreferenceModule"),
        (SFTModule, VarGrad(), "SFTModule", "gflownet.GFlowNetModule"),
        (PreferenceModule, Likelihood(), "PreferenceModule", "sft.SFTModule"),
    ],
)  # fmt: skip
def test_an_objective_of_another_regime_is_refused_with_the_module_that_serves_it(
    make_policy: Any, build: Build, objective: Objective, module: str, instead: str
) -> None:
    with pytest.raises(ValueError, match=rf"cannot train in {module},.*lightning_gfn\.modules\.{instead}"):
        build(make_policy(), objective)


def all_objectives() -> list[type[Objective]]:
    """Every objective of the package."""
    files = [import_module(f"{objectives.__name__}.{found.name}") for found in iter_modules(objectives.__path__)]
    kinds = {value for file in files for value in vars(file).values() if isinstance(value, type)}
    return [kind for kind in kinds if issubclass(kind, Objective) and kind is not Objective]


def test_every_objective_has_a_module_and_that_module_exists() -> None:
    assert len(all_objectives()) >= 12
    for kind in all_objectives():
        path = served_by(kind.__new__(kind))
        assert path is not None, kind
        file, name = path.rsplit(".", 1)
        assert hasattr(import_module(file), name)


def test_objectives_of_ones_own_are_judged_by_their_columns_and_children_by_their_parent(make_policy: Any) -> None:
    class Own(Objective):
        @property
        def requires(self) -> frozenset[str]:
            return frozenset({"log_pf_B", "log_reward_B"})

        def __call__(self, columns: Any) -> Any:
            raise AssertionError

    class Child(VarGrad):
        pass

    assert PolicyGradientModule(make_policy(), Own(), AnswerMatch()).objective.requires
    assert GFlowNetModule(make_policy(), Child(), AnswerMatch()).objective.requires
    with pytest.raises(ValueError, match="Child cannot train in PolicyGradientModule"):
        PolicyGradientModule(make_policy(), Child(), AnswerMatch())


@pytest.mark.parametrize("name", ["lr", "head_lr", "weight_decay", "warmup_steps", "final_lr_ratio"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_impossible_optimizer_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"optimizer\.{name} is {value}, expected"):
        OptimizerSettings(**{name: value})


def test_nothing_trainable_is_refused(make_policy: Any) -> None:
    module = SFTModule(make_policy())
    module.policy.build([])
    assert OptimizerSettings().build(module).param_groups
    module.requires_grad_(False)
    with pytest.raises(ValueError, match=r"SFTModule has no trainable parameter.*lora"):
        OptimizerSettings().build(module)


def test_a_kl_coefficient_that_cannot_reach_its_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kl\.coefficient is 0 and kl\.target 3\.0"):
        KLControl(coefficient=0.0, target=3.0)
    assert KLControl(coefficient=0.0).adapted(0.0, 5.0) == 0.0


def test_a_trajectory_counts_as_truncated_once_however_many_steps_were_cut() -> None:
    from lightning_gfn.modules.training_batch.rollout_statistics import truncated_B

    lengths = [4, 4, 2, 3, 4]
    mask = torch.arange(4) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.zeros(5, 4, dtype=torch.long)
    steps = StepBatch(ids[:, :1], mask[:, :1], ids, mask)
    rollouts = Rollouts(
        (), torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1, 1, 2]), steps, ("", "", ""), ("on_policy",) * 3
    )
    assert truncated_B(rollouts, 4).tolist() == [True, False, True]
    assert truncated_B(rollouts, 5).tolist() == [False, False, False]
