"""The policy that VarGrad and TB train on sampled episodes becomes proportional to the reward over scripts."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.objectives.trajectory_balance import tb_loss
from lightning_gfn.objectives.vargrad import vargrad_loss
from lightning_gfn.rewards.proof import ProofReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proof_sampler import EpisodeSampler
from lightning_gfn.rollouts.rewarded_sampler import evaluate_rewards


def distance(tactic, policy, theorem, temperature: float) -> float:
    """Total variation between the policy over all scripts and the reward."""
    tree = tactic.enumerated(policy, FakeLean(), theorem, 2)
    worth = {"proved": 0.0, "error": -15.0, "unfinished": -15.0}
    log_r = {
        script: (worth[kind] + (0.0 if kind == "proved" else 8 * math.log(4 / 5))) / temperature
        for script, (_, kind) in tree.items()
    }
    total = sum(math.exp(value) for value in log_r.values())
    return 0.5 * sum(abs(p - math.exp(log_r[script]) / total) for script, (p, _) in tree.items())


@pytest.mark.parametrize("method", ["vargrad", "tb", "planted error"])
def test_training_reaches_the_reward_proportional_policy(tactic, theorems, make_proving, method) -> None:
    """One token a tactic (l = 1, c = 5), binary reward at temperature 8."""
    policy, temperature = tactic.TacticPolicy(min_new_tokens=1, rows=60), 8.0
    log_z = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([{"params": [policy.table], "lr": 0.1}, {"params": [log_z], "lr": 0.1}])
    mix = BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0, temperature_high=2.0)
    sampler = EpisodeSampler(make_proving(max_steps=2), num_samples=24, behaviour=mix, seed=0)
    reward, before = ProofReward(binary=True), distance(tactic, policy, theorems[0].theorem, temperature)
    for step in range(120):
        rollouts = sampler.collect(policy, theorems[:1], rollout_step=step, buffer=None, device="cpu").rollouts
        rollouts, _ = evaluate_rewards(rollouts, reward, policy, prefixes=False)
        log_reward_B = reward.combine(rollouts.terms, rollouts, step).terminal_B / temperature
        scores = policy.score(rollouts.steps)
        log_pf_N = scores.log_pf_NT.sum(1)
        last = rollouts.trajectory_index_N.bincount().cumsum(0) - 1
        log_pf_B = torch.zeros(24).index_add(0, rollouts.trajectory_index_N, log_pf_N)
        if method == "planted error":  # only the last tactic counts
            log_pf_B = log_pf_N[last]
        if method == "tb":
            loss = tb_loss(log_pf_B, log_z.expand(24), log_reward_B).loss
        else:
            loss = vargrad_loss(log_pf_B, log_reward_B, rollouts.problem_index_B).loss
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 120)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = distance(tactic, policy, theorems[0].theorem, temperature)
    assert before > 0.2 and (after > 0.05 if method == "planted error" else after < 0.02), (before, after)
