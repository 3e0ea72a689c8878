"""The sampler's own log-probabilities reach the objectives, for tokens and stops, for completions and proofs."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.lean_types import Theorem
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import OptimizerSettings, UpdateSettings
from lightning_gfn.modules.training_batch.columns import behaviour_columns
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.objectives.functional.importance import ImportanceSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.proof import ProofSuccess
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.types import Problem, SampledActions

REWARD = f"{__file__.replace('test_importance_weights', 'conftest')}:hashed_reward"
OFF = 0.25


class OtherEngine(CausalLM):
    """Says of every token and of every free stop that it was ``OFF`` nats less probable than it was."""

    def sample(self, *args: Any, **settings: Any) -> SampledActions:
        found = super().sample(*args, **settings)
        free_N = found.behaviour_log_pstop_N < 0.0
        return replace(
            found,
            behaviour_log_pf_NT=torch.where(found.action_mask_NT, found.behaviour_log_pf_NT - OFF, 0.0),
            behaviour_log_pstop_N=found.behaviour_log_pstop_N - OFF * free_N,
        )


@pytest.fixture
def other_engine(make_policy) -> OtherEngine:
    """A policy over four letters that misreports what it sampled."""
    policy = make_policy()
    policy.__class__ = OtherEngine
    return policy


def loader(problems: list[Problem], count: int) -> DataLoader:
    return DataLoader([problems] * count, batch_size=None, collate_fn=list)  # type: ignore[arg-type]


@pytest.mark.parametrize("updates", [UpdateSettings(), UpdateSettings(num_epochs=2, num_minibatches=3)])
def test_the_gap_of_the_sampler_is_the_weight(other_engine, make_trainer, letters, updates) -> None:
    """At one token weight exp(0.25) everywhere; a cap of 1.1 cuts them all."""
    for cap, weight, cut in ((2.0, math.exp(OFF), 0.0), (1.1, 1.1, 1.0)):
        objective = GRPO(importance=ImportanceSettings(cap=cap))
        module = PolicyGradientModule(
            other_engine, objective, FunctionReward(function=REWARD), num_samples=6, updates=updates,
            optimizer=OptimizerSettings(lr=1e-3),
        )  # fmt: skip
        trainer = make_trainer(updates.num_updates)
        trainer.fit(module, loader(letters, updates.num_updates))
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert logged["train/importance_log_mean"] == pytest.approx(math.log(weight), abs=1e-4)
        assert logged["train/importance_truncated"] == cut and logged["train/importance_masked"] == 0.0


def trained(policy: CausalLM, trainer: Any, problems: list[Problem], importance: ImportanceSettings | None) -> Tensor:
    torch.manual_seed(0)
    module = PolicyGradientModule(
        policy, GRPO(importance=importance), FunctionReward(function=REWARD), num_samples=6,
        optimizer=OptimizerSettings(lr=0.1, eps=1.0),
    )  # fmt: skip
    trainer.fit(module, loader(problems, 3))
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_sampler_that_agrees_changes_next_to_nothing(make_policy, make_trainer, letters) -> None:
    """Decoder and scoring pass differ by rounding alone; the misreporting sampler is noticed."""
    off = trained(make_policy(), make_trainer(3), letters, None)
    importance = ImportanceSettings(level="sequence")
    torch.testing.assert_close(trained(make_policy(), make_trainer(3), letters, importance), off, atol=1e-5, rtol=1e-4)
    other = make_policy()
    other.__class__ = OtherEngine
    assert (trained(other, make_trainer(3), letters, importance) - off).abs().max() > 1e-3


def test_rejected_batches_move_nothing(make_policy, make_trainer, letters) -> None:
    importance = ImportanceSettings(level="none", reject="mean", reject_cap=1.1)
    states = []
    for steps in (1, 3):
        policy, trainer = make_policy(), make_trainer(steps)
        policy.__class__ = OtherEngine
        states.append(trained(policy, trainer, letters, importance))
        assert float(trainer.callback_metrics["train/importance_masked"]) == 1.0
        assert float(trainer.callback_metrics["train/grad_norm"]) == 0.0
    assert torch.equal(*states)


def test_given_trajectories_are_refused_before_a_model_is_loaded(make_policy) -> None:
    objective = FlowRL(log_z="group_mean", importance=ImportanceSettings(level="sequence"))
    reward = FunctionReward(function=REWARD)
    mixes = [
        BehaviourMix(on_policy=0.5, replay=0.5), BehaviourMix(on_policy=0.9, reference=0.1),
        BehaviourMix(always_reference=True),
    ]  # fmt: skip
    for mix in mixes:
        with pytest.raises(ValueError, match="objective.importance needs trajectories that were sampled"):
            GFlowNetModule(make_policy(), objective, reward, behaviour=mix, buffer=ReplayBuffer())
    GFlowNetModule(make_policy(), objective, reward, behaviour=BehaviourMix(on_policy=0.3, tempered=0.7))


@pytest.fixture
def worlds() -> ModuleType:
    """tests/helpers/proof_worlds.py."""
    path = Path(__file__).parents[1] / "helpers" / "proof_worlds.py"
    spec = spec_from_file_location("tests_helper_proof_worlds", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_proofs_join_tokens_and_stops_of_all_tactics(make_policy, worlds) -> None:
    """An action that the policy scores at log q was sampled at log q, in every place of the joined layout."""
    policy = make_policy(max_prompt_tokens=40, max_new_tokens=2, min_new_tokens=1, allowed_tokens=list("abcdefgh"),
                         config={"model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
                                 "num_hidden_layers": 1, "num_attention_heads": 2})  # fmt: skip
    policy.build(())
    objective = GRPO(importance=ImportanceSettings())
    module = PolicyGradientModule(
        policy, objective, ProofSuccess(), num_samples=8,
        proving=Proving(worlds.random_world(3, errors=0.2, proofs=0.1), max_steps=3),
    )  # fmt: skip
    problems = [Problem(f"t{i}", "", theorem=Theorem(f"t{i}", "s")) for i in range(3)]
    module.proving.environment.setup()
    rollouts = module.sampler.collect(policy, problems, rollout_step=0, buffer=None, device="cpu").rollouts
    assert len(rollouts.trajectory_index_N) > rollouts.num_trajectories, "several tactics"
    with torch.no_grad():
        scores = policy.score(rollouts.steps)
    layout = JoinedLayout(rollouts)
    columns = behaviour_columns(rollouts, layout)
    torch.testing.assert_close(columns["behaviour_log_pf_BT"], layout.log_pf(scores), atol=1e-4, rtol=1e-4)
    ends = layout.is_last_prefix()
    expected = torch.where(ends, layout.log_pstop(scores), 0.0)
    torch.testing.assert_close(columns["behaviour_log_pstop_BT1"], expected, atol=1e-4, rtol=1e-4)
