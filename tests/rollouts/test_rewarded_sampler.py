from __future__ import annotations

import random

import pytest
import torch

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.rollouts.batching import select_trajectories, to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.rewarded_sampler import evaluate_rewards
from lightning_gfn.types import LogReward, Rollouts

MIX = BehaviourMix(on_policy=0.3, tempered=0.2, replay=0.4, reference=0.1)


def train_a_while(policy, problems, reward, *, prefixes: bool, steps: int = 6) -> list[tuple[Rollouts, int]]:
    """The rollout half of a training loop: collect, reward, remember."""
    sampler = RolloutSampler(num_samples=4, behaviour=MIX, seed=3)
    buffer = ReplayBuffer(capacity=10, replacement=False)
    batches = []
    for step in range(steps):
        rollouts = sampler.collect(policy, problems, rollout_step=step, buffer=buffer, device="cpu").rollouts
        rollouts, calls = evaluate_rewards(rollouts, reward, policy, prefixes=prefixes)
        buffer.add(to_trajectories(rollouts, reward.combine(rollouts.terms, rollouts, step), optimizer_step=step))
        batches.append((rollouts, calls))
    return batches


@pytest.mark.parametrize("prefixes", [True, False])
@pytest.mark.parametrize("checks_answers", [True, False])
def test_replayed_terms_equal_recomputed_ones(policy, problems, make_reward, prefixes, checks_answers) -> None:
    reward = make_reward(checks_answers)
    batches = train_a_while(policy, problems, reward, prefixes=prefixes)
    assert reward.rows == sum(calls for _, calls in batches)
    replayed = 0
    for rollouts, calls in batches:
        replayed += rollouts.sources.count("replay")
        assert calls == rollouts.num_trajectories - rollouts.sources.count("replay")
        terms, correct_B = make_reward(checks_answers).terms(rollouts, policy, prefixes=prefixes)
        lengths = rollouts.action_mask_NT.sum(1)
        valid = torch.arange(rollouts.action_mask_NT.shape[1] + 1) <= lengths[:, None] if prefixes else slice(None)
        assert rollouts.terms["tokens"].shape == terms["tokens"].shape
        assert torch.equal(rollouts.terms["tokens"][valid], terms["tokens"][valid])
        assert rollouts.terms["tokens"].isfinite().all()
        if correct_B is None:
            assert rollouts.correct_B is None
        else:
            assert rollouts.correct_B is not None and torch.equal(rollouts.correct_B, correct_B)
    assert replayed > 20


def test_the_comparison_catches_terms_of_the_wrong_row(policy, problems, make_reward) -> None:
    rollouts, _ = train_a_while(policy, problems, make_reward(), prefixes=False)[-1]
    terms, _ = make_reward().terms(rollouts, policy, prefixes=False)
    assert not torch.equal(rollouts.terms["tokens"].roll(1), terms["tokens"])


def test_a_batch_of_replay_alone_asks_nothing(policy, problems, make_reward) -> None:
    reward = make_reward()
    buffer = ReplayBuffer()
    fresh = (
        RolloutSampler(num_samples=3, behaviour=BehaviourMix(), seed=0)
        .collect(policy, problems, rollout_step=0, buffer=None, device="cpu")
        .rollouts
    )
    fresh, _ = evaluate_rewards(fresh, reward, policy, prefixes=True)
    buffer.add(to_trajectories(fresh, reward.combine(fresh.terms, fresh, 0), optimizer_step=0))
    asked = reward.rows
    replaying = RolloutSampler(num_samples=3, behaviour=BehaviourMix(on_policy=0.0, replay=1.0), seed=0)
    rollouts = replaying.collect(policy, problems, rollout_step=1, buffer=buffer, device="cpu").rollouts
    rollouts, calls = evaluate_rewards(rollouts, reward, policy, prefixes=True)
    assert calls == 0 and reward.rows == asked and set(rollouts.sources) == {"replay"}
    assert reward.combine(rollouts.terms, rollouts, 1).prefix_BT1 is not None
    terminal_only, _ = evaluate_rewards(rollouts, reward, policy, prefixes=False)
    assert torch.equal(terminal_only.terms["tokens"], rollouts.at_last_prefix(rollouts.terms["tokens"]))


def test_a_buffer_filled_under_another_reward_is_refused(policy, problems, make_reward) -> None:
    sampler = RolloutSampler(num_samples=4, behaviour=MIX, seed=3)
    buffer = ReplayBuffer(replacement=False)
    first = sampler.collect(policy, problems, rollout_step=0, buffer=buffer, device="cpu").rollouts
    first, _ = evaluate_rewards(first, make_reward(), policy, prefixes=False)
    buffer.add(to_trajectories(first, LogReward(first.terms["tokens"]), optimizer_step=0))
    second = sampler.collect(policy, problems, rollout_step=1, buffer=buffer, device="cpu").rollouts
    assert "replay" in second.sources and "on_policy" in second.sources
    with pytest.raises(ValueError, match=r"terms \['tokens'\].*gives \['other'\].*start with an empty one"):
        evaluate_rewards(second, make_reward(name="other"), policy, prefixes=False)
    with pytest.raises(ValueError, match="for finished trajectories only"):
        evaluate_rewards(second, make_reward(), policy, prefixes=True)
    with pytest.raises(ValueError, match="filled under another reward"):
        evaluate_rewards(second, make_reward(checks_answers=False), policy, prefixes=False)


def test_trajectories_for_the_buffer(policy, problems, make_reward) -> None:
    rollouts, _ = train_a_while(policy, problems, make_reward(), prefixes=True)[-1]
    log_reward = make_reward().combine(rollouts.terms, rollouts, 0)
    trajectories = to_trajectories(rollouts, log_reward, optimizer_step=41)
    fresh = [b for b, source in enumerate(rollouts.sources) if source != "replay"]
    assert len(trajectories) == len(fresh) < rollouts.num_trajectories
    for b, trajectory in zip(fresh, trajectories, strict=True):
        action = rollouts.action_lists()[b]
        assert trajectory.problem_id == rollouts.problem_of(b).id and trajectory.born == 41
        assert trajectory.steps[0].action == tuple(action)
        assert policy.decode(trajectory.steps[0].context) == rollouts.problem_of(b).prompt
        assert trajectory.completion == rollouts.completions[b]
        assert trajectory.terms["tokens"] == tuple(rollouts.terms["tokens"][b, : len(action) + 1].tolist())
        assert rollouts.correct_B is not None and trajectory.terms["correct_B"] == (float(rollouts.correct_B[b]),)
        assert trajectory.log_reward == float(log_reward.terminal_B[b])


def test_selecting_trajectories_keeps_their_steps_together(policy, problems) -> None:
    rollouts = (
        RolloutSampler(num_samples=2, behaviour=BehaviourMix(), seed=0)
        .collect(policy, problems, rollout_step=0, buffer=None, device="cpu")
        .rollouts
    )
    actions = rollouts.action_lists()
    owners = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7, 7]
    rollouts.trajectory_index_N = torch.tensor(owners)
    rollouts.problem_index_B = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    rollouts.completions, rollouts.sources = rollouts.completions[:8], rollouts.sources[:8]
    for seed in range(5):
        index = sorted(random.Random(seed).sample(range(8), 3))
        part = select_trajectories(rollouts, index)
        assert part.completions == tuple(rollouts.completions[b] for b in index)
        assert part.problem_index_B.tolist() == [rollouts.problem_index_B[b] for b in index]
        assert part.action_lists() == [actions[n] for n, b in enumerate(owners) if b in index]
        assert part.trajectory_index_N.tolist() == [index.index(b) for b in owners if b in index]
    steps_of = to_trajectories(rollouts, LogReward(torch.zeros(8)), optimizer_step=0)
    assert [len(trajectory.steps) for trajectory in steps_of] == [3, 1, 2, 4, 1, 2, 1, 2]
    assert steps_of[2].steps[1].action == tuple(actions[5])
