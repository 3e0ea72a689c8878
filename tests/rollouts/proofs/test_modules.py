"""Modules that train on proofs: resumed runs are the same runs, counts and figures, what the teacher reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.callbacks.budget import Budget
from lightning_gfn.feedback.lean_messages import LeanFeedback
from lightning_gfn.interfaces import Reward
from lightning_gfn.lean_interfaces import ProofEnvironment
from lightning_gfn.lean_types import Theorem
from lightning_gfn.modules.distillation import DistillationModule, TeacherSettings
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import EvaluationSettings, UpdateSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.class_targets.class_target import ClassTarget
from lightning_gfn.rewards.class_targets.probabilities import RunningProbabilities, class_key
from lightning_gfn.rewards.proof import ProofReward, ProofSuccess
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.solution_classes.proofs import FirstTactic
from lightning_gfn.types import Problem

LETTERS = [Problem(f"t{i}", "", theorem=Theorem(f"t{i}", "s", proofs=(("a",),))) for i in range(4)]


@pytest.fixture
def world() -> Callable[..., ProofEnvironment]:
    """An environment of one-letter tactics."""
    from tests_helper_proof_worlds import random_world  # type: ignore[import-not-found]

    return lambda: random_world(3, errors=0.3, proofs=0.2)


@pytest.fixture(autouse=True)
def helpers() -> None:
    """Make the helper module importable."""
    import sys
    from importlib import util

    path = Path(__file__).parents[2] / "helpers" / "proof_worlds.py"
    spec = util.spec_from_file_location("tests_helper_proof_worlds", path)
    assert spec is not None and spec.loader is not None
    if spec.name not in sys.modules:
        sys.modules[spec.name] = util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])


def policy(**changes: Any) -> CausalLM:
    config = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    settings: dict[str, Any] = {
        "config": config, "tokenizer": TokenizerSettings(kind="byte"), "max_prompt_tokens": 40, "max_new_tokens": 1,
        "min_new_tokens": 1, "allowed_tokens": list("abcdefgh"),
    }  # fmt: skip
    return CausalLM(**{**settings, **changes})


def proving(environment: ProofEnvironment) -> Proving:
    return Proving(environment, max_steps=3, min_rows=1000, max_wait=None)


def trainer(steps: int, **changes: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "devices": 1}
    return L.Trainer(max_steps=steps, enable_model_summary=False, accelerator="cpu", **{**quiet, **changes})


def fit(module: L.LightningModule, steps: int, repeats: int = 1, **options: Any) -> L.Trainer:
    batches = [LETTERS[:2]] * (steps * repeats)  # this loader cannot be resumed in its middle
    runner = trainer(steps * repeats if "until" not in options else options.pop("until"), **options.pop("settings", {}))
    torch.manual_seed(0)  # weights are made when fit begins
    runner.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda rows: rows), **options)
    return runner


def class_target() -> Reward:
    return ClassTarget(FirstTactic(), RunningProbabilities(pooling=1.0), success=ProofSuccess())


def gflownet(environment: ProofEnvironment, reward: Reward) -> GFlowNetModule:
    mix = BehaviourMix(on_policy=0.3, tempered=0.2, replay=0.5, always_reference=True)
    return GFlowNetModule(
        policy(), VarGrad(), reward, num_samples=4, behaviour=mix, buffer=ReplayBuffer(),
        proving=proving(environment), updates=UpdateSettings(num_minibatches=2),
    )  # fmt: skip


@pytest.mark.parametrize("reward", [ProofReward, class_target])
def test_a_resumed_run_is_the_same_run_bit_for_bit(reward, world, tmp_path: Path) -> None:
    """Stopped between the two updates on a rollout batch, with replayed attempts in the buffer."""
    straight, first, resumed = (gflownet(world(), reward()) for _ in range(3))
    fit(straight, 6, 2)
    stopped = fit(first, 6, 2, until=7)
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    fit(resumed, 6, 2, ckpt_path=str(tmp_path / "half.ckpt"), weights_only=True)
    expected, found = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert straight.num_rollout_batches == resumed.num_rollout_batches == 6
    assert len(straight.buffer) == len(resumed.buffer) > 4
    assert straight.reward.state_dict() == resumed.reward.state_dict()
    other = gflownet(world(), reward())
    other.sampler.seed = 1
    fit(other, 6, 2)
    assert not all(torch.equal(expected[name], value) for name, value in other.state_dict().items())


def test_attempts_that_were_sampled_are_counted_by_their_first_tactic(world) -> None:
    module = gflownet(world(), class_target())
    fit(module, 4, 2)
    state = module.reward.state_dict()
    sampled = [source for source in module.latest_rollouts.rollouts.sources if source in ("on_policy", "tempered")]
    assert 0 < len(sampled) < module.latest_rollouts.rollouts.num_trajectories
    assert state["count"] >= len(sampled) and set(state["totals"]) == {"t0", "t1", ""}
    known = {class_key(letter) for letter in "abcdefgh"}
    assert state["sums"] and all(set(sums) <= known for sums in state["sums"].values())


def test_counts_figures_and_evaluation(world, tmp_path: Path) -> None:
    environment = world()
    budget = Budget(max_environment_steps=40)
    module = PolicyGradientModule(
        policy(), GRPO(), ProofSuccess(), num_samples=6, proving=proving(environment),
        evaluation=EvaluationSettings(num_samples=5),
    )  # fmt: skip
    runner = fit(module, 50, settings={"callbacks": [budget], "default_root_dir": tmp_path, "logger": False})
    assert budget.spent["environment_steps"] == len(environment.asked) >= 40
    assert runner.global_step < 50, "the limit on tactics stopped it"
    logged = {name: float(value) for name, value in runner.callback_metrics.items()}
    assert logged["train/env_steps"] > 0 and logged["train/share_proved"] + logged["train/share_error"] <= 1.0
    assert logged["budget/environment_steps"] == budget.spent["environment_steps"]
    mixed = [LETTERS[0], Problem("plain", "x", answer="1"), *LETTERS[1:], Problem("other", "y", answer="1")]
    found = module.records_at(mixed, 1.0)
    assert [record.problem for record in found] == mixed
    assert [bool(record.episodes) for record in found] == [True, False, True, True, True, False]
    records = module.records_at(LETTERS, 1.0)
    assert [record.problem for record in records] == LETTERS and all(len(record.episodes) == 5 for record in records)
    assert module.environment_record() == {"backend": "world", "version": "1", "max_steps": 3}
    module.proving = None
    with pytest.raises(ValueError, match=r"'t0' is a theorem: set model\.proving"):
        module.records_at(LETTERS, 1.0)


@pytest.mark.parametrize("steps", ["all", "last"])
def test_the_teacher_reads_each_steps_own_prompt(world, steps) -> None:
    template = "{feedback}|{prompt}"
    module = DistillationModule(
        policy(), LeanFeedback(strength=0.0, on_proved=False), ProofSuccess(), num_samples=8, proving=proving(world()),
        teacher=TeacherSettings(template=template, top_k=3, max_prompt_tokens=60, steps=steps),
    )  # fmt: skip
    fit(module, 3)
    rollouts = module.sampler.collect(module.policy, LETTERS, rollout_step=9, buffer=None, device="cpu").rollouts
    feedback = module.feedback.give(rollouts, module.policy, range(rollouts.num_trajectories))
    contexts, too_long = module.teacher_contexts(rollouts, feedback)
    assert too_long == 0
    expected, n = {}, 0
    for episode, text in zip(rollouts.episodes, feedback.texts, strict=True):
        for k in range(len(episode.tactics)):
            own = rollouts.context_ids_NC[n][rollouts.context_mask_NC[n]].tolist()
            if text is not None and (steps == "all" or k == len(episode.tactics) - 1):
                prompt = module.proving.proof_prompt(episode.states[k], episode.tactics[:k])
                assert module.policy.encode_prompt(prompt) == own
                expected[n] = module.policy.encode_context(f"{text}|{prompt}")
            n += 1
    assert contexts == expected and len(expected) > 8
    columns, _ = module.compare(rollouts, contexts)
    trajectories = [int(rollouts.trajectory_index_N[n]) for n in expected]
    assert len(columns["distil_mask_BT1"]) == len(set(trajectories))
    assert (max(map(trajectories.count, trajectories)) > 1) == (steps == "all")
    output = module.objective(columns)
    total = 0.0
    for n, context in expected.items():
        own = rollouts.steps.select(torch.tensor([n]))
        told = replace(own, context_ids_NC=torch.tensor([context]), context_mask_NC=torch.ones(1, len(context)).bool())
        teacher = module.policy.teacher_actions(told, top_k=3)
        student = module.policy.candidate_scores(own, teacher.candidates_NT1K)
        for t in range(int(own.action_mask_NT.sum()) + 1):
            if teacher.mask_NT1[0, t]:
                for log_p, log_q in zip(teacher.log_p_NT1K[0, t], student.log_p_NT1K[0, t], strict=True):
                    total += float(log_p.exp() * (log_p - log_q)) if log_p > -torch.inf else 0.0
    assert float(output.loss) == pytest.approx(total / len(set(trajectories)), rel=1e-4)
