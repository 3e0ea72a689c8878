"""Classes of solutions and the entropy bonus: what of them reaches the objective, and what is refused before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import EntropyControl, OptimizerSettings, UpdateSettings
from lightning_gfn.modules.training_batch.class_column import class_column
from lightning_gfn.modules.training_batch.loss_weights import LossWeights
from lightning_gfn.objectives.advantage_rules.pass_at_k import PassAtK
from lightning_gfn.objectives.advantage_rules.set_objective import SetObjective
from lightning_gfn.objectives.advantage_rules.uniqueness import Uniqueness
from lightning_gfn.objectives.functional.stop_action import actions_of
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem

REWARD = f"{__file__.replace('test_diversity_settings', 'conftest')}:hashed_reward"


class FirstLetters(SolutionClasses):
    """Completions with the same first letter; empty ones belong to no class."""

    @property
    def name(self) -> str:
        return "first_letters"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        return [text[0] if text else None for text in completions]


class Spied(GRPO):
    """Remembers the columns that each rollout batch is prepared from."""

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.__dict__.setdefault("prepared", []).append(dict(columns))
        return super().prepare(columns)


def make(policy: Any, objective: GRPO, **settings: Any) -> PolicyGradientModule:
    return PolicyGradientModule(policy, objective, FunctionReward(REWARD), **{"num_samples": 6, **settings})


def train(module: PolicyGradientModule, trainer: Any, letters: list[Problem], steps: int) -> list[dict[str, Tensor]]:
    trainer.fit(module, DataLoader([letters] * steps, batch_size=None, collate_fn=lambda batch: batch))
    return vars(module.objective)["prepared"]


def test_classes_are_numbered_within_each_problem(make_policy, make_trainer, letters):
    module = make(make_policy(), Spied(advantage=Uniqueness()), solution_classes=FirstLetters())
    (columns,) = train(module, make_trainer(1), letters, 1)
    rollouts = module.latest_rollouts.rollouts
    keys = [
        (p, text[0]) if text else None
        for p, text in zip(rollouts.problem_index_B.tolist(), rollouts.completions, strict=True)
    ]
    numbers = columns["class_B"].tolist()
    for i, one in enumerate(keys):
        assert (numbers[i] == -1) == (one is None)
        for j, other in enumerate(keys):
            if None not in (one, other) and one[0] == other[0]:
                assert (numbers[i] == numbers[j]) == (one == other)
    assert columns["class_B"].dtype == torch.int64 and len(set(numbers)) > 2
    assert torch.equal(class_column(FirstLetters(), rollouts), columns["class_B"])


def test_classes_follow_their_trajectories_into_minibatches(make_policy, make_trainer, letters):
    updates = UpdateSettings(num_epochs=2, num_minibatches=3)
    objective = Spied(advantage=SetObjective(3), advantage_scale="none", drop_equal_groups=True)
    module = make(make_policy(), objective, solution_classes=FirstLetters(), updates=updates)
    train(module, make_trainer(2), letters, 6)
    assert module.window is not None
    rollouts, _, columns = module.window.minibatch(letters, updates, seed=0, whole_groups=True)
    assert torch.equal(class_column(FirstLetters(), rollouts), columns["class_B"])


def test_what_does_not_fit_is_refused_before_a_model_is_loaded(make_policy):
    policy = make_policy(config=None, tokenizer=None, pretrained="some-organisation/a-model-that-does-not-exist")
    with pytest.raises(ValueError, match="GRPO needs class_B.*set model.solution_classes"):
        make(policy, GRPO(advantage=Uniqueness()))
    with pytest.raises(ValueError, match="GRPO reads no classes: remove model.solution_classes"):
        make(policy, GRPO(), solution_classes=FirstLetters())
    with pytest.raises(ValueError, match="set model.num_samples to 8 or more"):
        make(policy, GRPO(advantage=PassAtK(8), advantage_scale="none"))
    with pytest.raises(ValueError, match="GRPO needs entropy_coefficient: set model.entropy.coefficient"):
        make(policy, GRPO(entropy_bonus=True))
    with pytest.raises(ValueError, match="GRPO has no entropy bonus: set objective.entropy_bonus or remove model.ent"):
        make(policy, GRPO(), entropy=EntropyControl())


@pytest.mark.parametrize("updates", [UpdateSettings(), UpdateSettings(num_epochs=2)])
def test_the_steered_bonus_follows_the_measured_entropy(updates, make_policy, make_trainer, letters):
    """A target above every entropy: applied from 0 on, one step more each batch. One below: never applied."""
    for target, found in ((9.0, [0.0, 0.25, 0.5]), (1e-3, [0.0, 0.0, 0.0])):
        module = make(
            make_policy(),
            Spied(entropy_bonus=True),
            entropy=EntropyControl(coefficient=0.0, target=target, step=0.25),
            updates=updates,
        )
        steps = 3 * updates.num_updates
        prepared = train(module, make_trainer(steps), letters, steps)
        assert [columns["entropy_coefficient"].item() for columns in prepared] == found
        assert module.extra_state()["entropy_coefficient"] == (0.75 if target > 1 else 0.0)
        fresh = make(make_policy(), GRPO(entropy_bonus=True), entropy=EntropyControl(0.0, target=target, step=0.25))
        fresh.load_extra_state(module.extra_state())
        assert fresh.weights.values == module.weights.values


def test_entropy_is_measured_over_actions(make_policy, make_trainer, letters, monkeypatch):
    measured: list[float] = []
    monkeypatch.setattr(LossWeights, "use", lambda self, name, value: measured.append(value) or 0.1)
    module = make(make_policy(), Spied(entropy_bonus=True), entropy=EntropyControl())
    seen: list[dict[str, Tensor]] = []
    call = GRPO.__call__
    monkeypatch.setattr(GRPO, "__call__", lambda self, columns: seen.append(dict(columns)) or call(self, columns))
    train(module, make_trainer(1), letters, 1)
    mask = actions_of(seen[0], "")[1]
    assert measured == [pytest.approx(seen[0]["entropy_BT1"][mask].mean().item(), rel=1e-5)]
    assert not bool(mask.all()) and bool(seen[0]["forced_stop_B"].any())


def test_the_bonus_keeps_entropy_up(make_policy, make_trainer, letters):
    ends = []
    for coefficient in (0.0, 3.0):
        torch.manual_seed(0)
        module = make(
            make_policy(),
            Spied(entropy_bonus=True),
            entropy=EntropyControl(coefficient),
            optimizer=OptimizerSettings(lr=1e-2),
        )
        trainer = make_trainer(30)
        train(module, trainer, letters, 30)
        ends.append(trainer.callback_metrics["train/entropy_mean"].item())
    assert ends[1] > ends[0] + 0.2


def test_the_control_by_hand() -> None:
    control = EntropyControl(coefficient=0.01, target=0.5, step=0.005, maximum=0.012)
    assert control.applied(0.01, 0.4) == 0.01 and control.applied(0.01, 0.6) == 0.0
    assert control.adapted(0.01, 0.4) == pytest.approx(0.012), "the largest"
    assert control.adapted(0.01, 0.6) == pytest.approx(0.005) and control.adapted(0.003, 0.6) == 0.0
    assert EntropyControl(0.2).applied(0.2, 9.0) == EntropyControl(0.2).adapted(0.2, 9.0) == 0.2
    for settings, word in (({"coefficient": -1.0}, "coefficient"), ({"target": 0.0}, "target"), ({"step": 0.0}, "step"),
                           ({"coefficient": 2.0, "target": 1.0}, "maximum")):  # fmt: skip
        with pytest.raises(ValueError, match=f"entropy.*{word}"):
            EntropyControl(**settings)
