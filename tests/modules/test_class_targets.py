"""Class targets in training: a real policy comes to them, and what was learned of classes survives a checkpoint."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.class_targets.class_target import ClassTarget
from lightning_gfn.rewards.class_targets.probabilities import (
    ClassProbabilities,
    KnownProbabilities,
    RunningProbabilities,
)
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem

STRINGS = ["".join(word) for n in range(4) for word in product("abcd", repeat=n)]
RIGHT = {text: text[0] if len(text) > 1 else "alone" for text in STRINGS if text.endswith("a")}
PROBLEM = Problem("p", "x", answer="a", answer_style="(.)$", solution_set=RIGHT)


def train(make_policy: Any, make_trainer: Any, reward: ClassTarget, objective: Any, steps: int, **trainer: Any) -> Any:
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
    }  # fmt: skip
    module = GFlowNetModule(
        make_policy(config=config, max_new_tokens=3),
        objective,
        reward,
        num_samples=64,
        optimizer=OptimizerSettings(lr=3e-3, schedule="linear"),
        behaviour=BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0, temperature_high=2.0),
    )
    loader = torch.utils.data.DataLoader([PROBLEM] * steps, batch_size=1, collate_fn=list)
    make_trainer(steps, **trainer).fit(module, loader)
    return module


def distribution(policy: Any, *, reference: bool) -> torch.Tensor:
    """Of all 85 strings, by enumeration."""
    prompt = policy.encode_prompt(PROBLEM.prompt)
    rows = pad_steps([prompt] * len(STRINGS), [policy.encode_completion(text) for text in STRINGS], "cpu")
    with torch.no_grad():
        return policy.score(rows, reference=reference).log_prob_N(rows.action_mask_NT).double().exp()


@pytest.mark.slow
@pytest.mark.parametrize("probabilities", [KnownProbabilities(), RunningProbabilities(pooling=0.0)])
@pytest.mark.parametrize("objective", [VarGrad(), ModifiedSubTB()])
def test_training_samples_every_class_alike(
    make_policy: Any, make_trainer: Any, objective: Any, probabilities: ClassProbabilities
) -> None:
    reward = ClassTarget(probabilities=probabilities, beta=3.0, alpha=1.0, epsilon=1e-6)
    policy = train(make_policy, make_trainer, reward, objective, 600).policy.eval()
    reference, found = (distribution(policy, reference=which) for which in (True, False))
    share: dict[str, float] = {}
    for text, p in zip(STRINGS, reference.tolist(), strict=True):
        if text in RIGHT:
            share[RIGHT[text]] = share.get(RIGHT[text], 0.0) + p
    weights = [
        p * (20.0855 / share[RIGHT[text]] if text in RIGHT else 1.0)
        for text, p in zip(STRINGS, reference.tolist(), strict=True)
    ]
    target = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    assert 0.5 * float((found - target).abs().sum()) < 0.05 < 0.3 < 0.5 * float((reference - target).abs().sum())


def test_what_was_learned_is_in_the_checkpoint(make_policy: Any, make_trainer: Any, tmp_path: Path) -> None:
    reward = ClassTarget(probabilities=RunningProbabilities())
    module = train(make_policy, make_trainer, reward, VarGrad(), 3)
    learned = reward.state_dict()
    assert learned["count"] == 3 * 64 and len(learned["sums"]["p"]) > 2
    module.trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = GFlowNetModule(
        make_policy(config=module.policy.config_block, max_new_tokens=3), VarGrad(), ClassTarget(), num_samples=64
    )
    again.load_extra_state(next(iter(part for part in state.values() if is_of_module(part))))
    assert again.reward.state_dict() == learned


def is_of_module(part: Any) -> bool:
    """True for what the module itself wrote into a checkpoint."""
    return isinstance(part, dict) and "num_rollout_batches" in part
