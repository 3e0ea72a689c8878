"""The whole stack (sampler, reward, scoring, buffer, Trainer) reaches the reward-proportional distribution exactly.

The policy is a one-layer Llama over four letters with at most four of them: 341 completions, every prefix may stop.
After training, log q of each is compared with log R - log Z by enumeration, not from draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import LogZHead
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem

REWARD = f"{__file__.replace('test_exactness', 'conftest')}:hashed_reward"
OFF_POLICY = BehaviourMix(on_policy=0.25, tempered=0.5, replay=0.25, temperature_low=0.7, temperature_high=2.0)


def total_variation(policy: CausalLM, prompt: str, log_reward: Callable[[str], float]) -> float:
    """Half the L1 distance of q and R / Z over every completion of at most ``max_new_tokens`` letters."""
    texts = ["".join(p) for n in range(policy.max_new_tokens + 1) for p in itertools.product("abcd", repeat=n)]
    actions = [policy.encode_completion(text) for text in texts]
    width = policy.max_new_tokens
    ids = torch.tensor([a + [0] * (width - len(a)) for a in actions])
    mask = torch.tensor([[t < len(a) for t in range(width)] for a in actions])
    context = torch.tensor([policy.encode_prompt(prompt)] * len(texts))
    with torch.no_grad():
        scores = policy.score(context, torch.ones_like(context, dtype=torch.bool), ids, mask)
    stop = scores.log_pstop_NT1.gather(1, mask.sum(1, keepdim=True)).squeeze(1)
    log_q = torch.where(mask, scores.log_pf_NT, 0.0).sum(1).double() + stop.double()
    assert log_q.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    target = torch.tensor([log_reward(text) for text in texts], dtype=torch.float64).log_softmax(0)
    return 0.5 * (log_q.exp() - target.exp()).abs().sum().item()


def train(
    make_policy: Any, make_trainer: Any, objective: Any, head: Any, behaviour: BehaviourMix, steps: int
) -> CausalLM:
    module = GFlowNetModule(
        make_policy(config={
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 64,
        }),
        objective,
        FunctionReward(function=REWARD, prefixes="log_reward_BT1" in objective.requires),
        num_samples=96, behaviour=behaviour, head=head,
        buffer=ReplayBuffer(capacity=400, per_problem=True) if behaviour.replay > 0 else None,
        optimizer=OptimizerSettings(lr=3e-3, head_lr=3e-2, warmup_steps=20, schedule="cosine", betas=(0.9, 0.98)),
        log_entropy=False,
    )  # fmt: skip
    problem = Problem(id="only", prompt="x")
    loader = DataLoader([problem] * steps, batch_size=1, collate_fn=list)
    make_trainer(steps, gradient_clip_val=1.0).fit(module, loader)
    return module.policy


CASES = {
    "subtb": (ModifiedSubTB, None, BehaviourMix(), 700),
    "vargrad off-policy": (VarGrad, None, OFF_POLICY, 700),
    "tb with a log Z head": (TrajectoryBalance, LogZHead, BehaviourMix(), 700),
}


@pytest.mark.parametrize("case", CASES)
def test_policy_becomes_proportional_to_the_reward(make_policy, make_trainer, log_reward, case):
    objective, head, behaviour, steps = CASES[case]
    untrained = total_variation(build(make_policy()), "x", log_reward)
    policy = train(make_policy, make_trainer, objective(), head() if head else None, behaviour, steps)
    assert untrained > 0.2
    assert total_variation(policy, "x", log_reward) < 0.02
    assert math.isfinite(untrained)


def build(policy: CausalLM) -> CausalLM:
    policy.build(())
    return policy
