"""Dynamic sampling in a module: what reaches the objective, what it costs, and that nothing changes without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import OptimizerSettings, UpdateSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.policies.heads import ValueHead
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings
from lightning_gfn.types import LossOutput, Problem

REWARD = f"{__file__}:starts_with_a"
SAMPLES = 4


def starts_with_a(completions: list[str], **columns: Any) -> list[float]:
    """A reward of 0 or 1, so that groups of equal rewards are common."""
    return [float(text.startswith("a")) for text in completions]


class Recorded(PolicyGradientModule):
    """Remembers what each training step returned and logged, and the rollouts and columns of each rollout batch."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.results: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.rewards: list[list[list[float]]] = []
        self.sampled: list[list[int]] = []

    def log_output(self, output: LossOutput, **values: float | Tensor) -> None:
        self.logged.append({**output.diagnostics, **values})
        super().log_output(output, **values)

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        if self.window is None:
            self.sampled.append([])
            sample, prepare = self.policy.sample, self.objective.prepare

            def counted(*args: Any, **keys: Any) -> Any:
                actions = sample(*args, **keys)
                self.sampled[-1] += actions.action_mask_NT.sum(1).tolist()
                return actions

            def seen(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
                self.rewards.append(columns["log_reward_B"].reshape(len(batch), -1).tolist())
                return prepare(columns)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self.policy, "sample", counted)
                patch.setattr(type(self.objective), "prepare", lambda objective, columns: seen(columns))
                self.results.append(super().training_step(batch, batch_idx))
        else:
            self.results.append(super().training_step(batch, batch_idx))
        return self.results[-1]


def train(policy: Any, trainer: Any, letters: list[Problem], **settings: Any) -> Recorded:
    objective: Objective = GRPO(drop_equal_groups=True, clip_high=0.28, aggregation="token")
    settings = {"num_samples": SAMPLES, "optimizer": OptimizerSettings(lr=1e-3), **settings}
    module = Recorded(policy, objective, FunctionReward(function=REWARD), **settings)
    updates = module.updates_per_rollout
    batches = [letters] * (trainer.max_steps // updates * updates)
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=list))
    return module


def share_mixed(module: Recorded) -> float:
    groups = [group for batch in module.rewards for group in batch]
    return sum(len(set(group)) > 1 for group in groups) / len(groups)


@pytest.mark.parametrize("updates", [None, UpdateSettings(num_epochs=2, num_minibatches=3)], ids=["once", "window"])
def test_the_objective_gets_more_mixed_groups_and_the_budget_counts_all_rounds(
    make_policy, make_trainer, letters, updates
):
    plain = train(make_policy(), make_trainer(12), letters, updates=updates)
    module = train(make_policy(), make_trainer(12), letters, updates=updates, resample=ResampleSettings(8))
    assert share_mixed(plain) < 0.9 and share_mixed(module) > share_mixed(plain) + 0.1
    each = module.updates_per_rollout
    for batch, sampled in enumerate(module.sampled):
        first, *later = module.results[batch * each : (batch + 1) * each]
        assert (first["generated_tokens"], first["reward_calls"]) == (sum(sampled), len(sampled))
        assert all((result["generated_tokens"], result["reward_calls"]) == (0, 0) for result in later)
        left = sum(len(set(group)) == 1 for group in module.rewards[batch]) / len(letters)
        assert {row["share_groups_left_equal"] for row in module.logged[batch * each : (batch + 1) * each]} == {left}
    assert any(len(sampled) > len(letters) * SAMPLES for sampled in module.sampled)
    assert any(row["resample_rounds"] > 1 and row["share_groups_refilled"] > 0 for row in module.logged)


def test_without_it_a_run_is_what_it_was(make_policy, make_trainer, letters):
    """One call to the policy, no new figure; and one round that finds every group mixed changes no weight."""
    plain = train(make_policy(), make_trainer(4), letters)
    assert all(len(sampled) == len(letters) * SAMPLES for sampled in plain.sampled)
    assert not {name for row in plain.logged for name in row if "resample" in name or "groups" in name}
    large = {"num_samples": 64}
    once, again = (
        train(make_policy(), make_trainer(3), letters, **large, resample=resample)
        for resample in (None, ResampleSettings())
    )
    assert share_mixed(once) == 1.0
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in once.state_dict().items())


def test_a_module_refuses_it_where_groups_mean_nothing(make_policy):
    with pytest.raises(ValueError, match="PPO does not compare trajectories.*remove model.resample"):
        PolicyGradientModule(
            make_policy(), PPO(kl="none"), FunctionReward(function=REWARD), head=ValueHead(),
            resample=ResampleSettings(),
        )  # fmt: skip
