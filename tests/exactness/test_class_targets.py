"""Every GFlowNet objective, trained from scratch on samples, reaches a target over classes within 0.02."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lettered_task import class_of, is_right, lettered_policy, lettered_problem, strings, target_of

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.detailed_balance import DetailedBalance, ModifiedDetailedBalance
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.class_targets.class_target import ClassTarget
from lightning_gfn.rewards.class_targets.probabilities import KnownProbabilities
from lightning_gfn.types import Rollouts

LENGTH, BETA = 4, 3.0
OBJECTIVES = (TrajectoryBalance(), VarGrad(), ModifiedSubTB(), SubTB(), DetailedBalance(), ModifiedDetailedBalance())


def log_rewards(alpha: float) -> torch.Tensor:
    """Of all 341 strings, as the reward gives them."""
    policy, problem, texts = lettered_policy(LENGTH), lettered_problem(LENGTH), strings(LENGTH)
    actions = [policy.encode_completion(text) for text in texts]
    rollouts = Rollouts(
        problems=(problem,),
        problem_index_B=torch.zeros(len(texts), dtype=torch.int64),
        trajectory_index_N=torch.arange(len(texts)),
        steps=pad_steps([policy.encode_prompt(problem.prompt)] * len(texts), actions, "cpu"),
        completions=tuple(texts),
        sources=("on_policy",) * len(texts),
    )
    reward = ClassTarget(probabilities=KnownProbabilities(), alpha=alpha, beta=BETA, epsilon=1e-9)
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    return reward.combine(terms, rollouts, 0).terminal_B


def test_the_reward_is_the_target_by_its_definition() -> None:
    for alpha in (0.0, 0.5, 1.0):
        found = log_rewards(alpha).double().softmax(0)
        expected = torch.tensor(target_of(lettered_policy(LENGTH), LENGTH, alpha=alpha, beta=BETA), dtype=torch.float64)
        assert 0.5 * float((found - expected).abs().sum()) < 1e-5


def test_at_alpha_1_every_class_has_the_same_probability_and_at_0_its_own() -> None:
    texts = strings(LENGTH)
    classes = sorted({class_of(text) for text in texts if is_right(text)})

    def shares(alpha: float) -> list[float]:
        found = log_rewards(alpha).double().softmax(0).tolist()
        own = [
            sum(p for text, p in zip(texts, found, strict=True) if is_right(text) and class_of(text) == name)
            for name in classes
        ]
        return [share / sum(own) for share in own]

    reference, root, uniform = shares(0.0), shares(0.5), shares(1.0)
    assert uniform == pytest.approx([1 / len(classes)] * len(classes), abs=1e-5)
    whole = sum(share**0.5 for share in reference)
    assert root == pytest.approx([share**0.5 / whole for share in reference], abs=1e-5)
    assert max(reference) / min(reference) > 10.0, "the task is skewed"


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(
            one, marks=() if isinstance(one, (TrajectoryBalance, VarGrad, ModifiedSubTB)) else pytest.mark.slow
        )
        for one in OBJECTIVES
    ],
    ids=lambda one: type(one).__name__,
)
def test_objectives_reach_the_target(
    objective: Objective, alpha: float, toy_tree: Any, train_toy: Callable[..., float]
) -> None:
    tree = toy_tree(LENGTH)
    expected = target_of(lettered_policy(LENGTH), LENGTH, alpha=alpha, beta=BETA)
    tree.log_reward_S = log_rewards(alpha)
    steps = 3000 if isinstance(objective, ModifiedDetailedBalance) else 1000  # it carries news one token a time
    reached = train_toy(tree, objective, "on_policy", num_steps=steps, batch_size=256, learning_rate=0.1)
    tree.log_reward_S = torch.tensor(expected, dtype=torch.float64).log().float()
    again = train_toy(tree, objective, "on_policy", num_steps=0, batch_size=1, learning_rate=0.1)
    assert reached < 0.02 < again
