"""The whole stack (sampler, reward, scoring, buffer, Trainer) reaches the reward-proportional distribution exactly.

The policy is a small Llama over four letters with at most three or four of them; every prefix may stop.
After training, log q of each is compared with log R - log Z by enumeration, not from draws. For FlowRL, log R is
log q_ref + r with the policy before training as q_ref.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import Head, LogZHead
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem, StepBatch

REWARD = f"{__file__.replace('test_exactness', 'conftest')}:hashed_reward"
OFF_POLICY = BehaviourMix(on_policy=0.25, tempered=0.5, replay=0.25, temperature_low=0.7, temperature_high=2.0)


def log_probs(policy: CausalLM, prompt: str, texts: list[str], *, reference: bool = False) -> torch.Tensor:
    """log q of each completion, or log q_ref."""
    actions = [policy.encode_completion(text) for text in texts]
    width = policy.max_new_tokens
    ids = torch.tensor([a + [0] * (width - len(a)) for a in actions])
    mask = torch.tensor([[t < len(a) for t in range(width)] for a in actions])
    context = torch.tensor([policy.encode_prompt(prompt)] * len(texts))
    with torch.no_grad():
        scores = policy.score(
            StepBatch(context, torch.ones_like(context, dtype=torch.bool), ids, mask), reference=reference
        )
    stop = scores.log_pstop_NT1.gather(1, mask.sum(1, keepdim=True)).squeeze(1)
    log_q = torch.where(mask, scores.log_pf_NT, 0.0).sum(1).double() + stop.double()
    assert log_q.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    return log_q


def total_variation(policy: CausalLM, log_reward: Callable[[str], float], *, tilted: bool) -> float:
    """Half the L1 distance of q and R / Z over every completion of at most ``max_new_tokens`` letters."""
    texts = ["".join(p) for n in range(policy.max_new_tokens + 1) for p in itertools.product("abcd", repeat=n)]
    log_q = log_probs(policy, "x", texts)
    target = torch.tensor([log_reward(text) for text in texts], dtype=torch.float64)
    if tilted:
        target = target + log_probs(policy, "x", texts, reference=True)
    target = target.log_softmax(0)
    return 0.5 * (log_q.exp() - target.exp()).abs().sum().item()


def train(make_policy: Any, make_trainer: Any, case: Case) -> CausalLM:
    objective = case.objective()
    module = GFlowNetModule(
        make_policy(max_new_tokens=case.max_letters, config={
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 64,
        }),
        objective,
        FunctionReward(function=REWARD, prefixes="log_reward_BT1" in objective.requires),
        num_samples=64, behaviour=case.behaviour, head=case.head() if case.head is not None else None,
        buffer=ReplayBuffer(capacity=400, per_problem=True) if case.behaviour.replay > 0 else None,
        optimizer=OptimizerSettings(lr=case.lr, head_lr=3e-2, warmup_steps=20, schedule="cosine", betas=(0.9, 0.98)),
        log_entropy=False,
    )  # fmt: skip
    loader = DataLoader([Problem(id="only", prompt="x")] * case.steps, batch_size=1, collate_fn=list)
    make_trainer(case.steps, gradient_clip_val=1.0).fit(module, loader)
    return module.policy


@dataclass(frozen=True)
class Case:
    """One training run: 85 completions of up to three letters, or 341 of up to four."""

    objective: Callable[[], Objective]
    head: type[Head] | None = None
    behaviour: BehaviourMix = BehaviourMix()
    max_letters: int = 3
    steps: int = 300
    lr: float = 2e-3
    tilted: bool = False


PLAIN_FLOW = partial(FlowRL, beta=1.0, length_normalise=False, reward_scale="none")
CASES = [
    pytest.param(Case(ModifiedSubTB, steps=200), id="subtb"),
    pytest.param(Case(VarGrad, behaviour=OFF_POLICY), id="vargrad off-policy"),
    pytest.param(
        Case(partial(PLAIN_FLOW, log_z="group_mean"), tilted=True), id="flowrl group mean", marks=pytest.mark.slow
    ),
    pytest.param(Case(PLAIN_FLOW, LogZHead, steps=600, lr=1e-3, tilted=True), id="flowrl head", marks=pytest.mark.slow),
    pytest.param(Case(TrajectoryBalance, LogZHead, steps=600, lr=1e-3), id="tb log Z head", marks=pytest.mark.slow),
    pytest.param(Case(ModifiedSubTB, None, OFF_POLICY, 4, 1200), id="subtb off-policy, 341", marks=pytest.mark.slow),
    pytest.param(Case(VarGrad, None, BehaviourMix(), 4, 1500, 1e-3), id="vargrad, 341", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("case", CASES)
def test_policy_becomes_proportional_to_the_reward(make_policy, make_trainer, log_reward, case):
    untrained = make_policy(max_new_tokens=case.max_letters)
    untrained.build(())
    untrained.freeze_reference()
    assert total_variation(untrained, log_reward, tilted=case.tilted) > 0.2
    trained = train(make_policy, make_trainer, case)
    assert total_variation(trained, log_reward, tilted=case.tilted) < 0.02
    if case.tilted:
        assert total_variation(trained, log_reward, tilted=False) > 0.1, "the reference is part of the target"
