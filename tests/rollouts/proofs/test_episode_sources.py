"""Where attempts come from: replay, reference proofs, a search; and theorems that cannot be stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.lean_types import Episode
from lightning_gfn.rewards.proof import ProofReward, ProofSuccess
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts import batching
from lightning_gfn.rollouts.batching import concatenated, select_trajectories, to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings, exchange_rows
from lightning_gfn.rollouts.make_sampler import make_sampler
from lightning_gfn.rollouts.proofs.proof_sampler import EpisodeSampler
from lightning_gfn.rollouts.proofs.proving import Found, FoundEpisode, ProofBehaviour, Proving
from lightning_gfn.rollouts.rewarded_sampler import RewardedSampler, evaluate_rewards
from lightning_gfn.rollouts.rollout_batch import environment_steps
from lightning_gfn.types import LogReward, Problem, Rollouts

REPLAY = {"on_policy": 0.0, "replay": 1.0}
REFERENCE = {"on_policy": 0.0, "reference": 1.0}


def by_trajectory(rollouts: Rollouts) -> list[tuple[Any, ...]]:
    """Problem, text, steps, episode of each trajectory."""
    actions = rollouts.action_lists()
    found = []
    for b in range(rollouts.num_trajectories):
        rows = (rollouts.trajectory_index_N == b).nonzero().squeeze(1).tolist()
        steps = [(rollouts.context_ids_NC[n][rollouts.context_mask_NC[n]].tolist(), actions[n]) for n in rows]
        episode = rollouts.episodes[b] if rollouts.episodes is not None else None
        found.append((rollouts.problem_of(b).id, rollouts.completions[b], steps, episode))
    return found


def test_replayed_attempts_come_back_whole(policy, theorems, make_proving, collect) -> None:
    policy.freeze_reference()
    proving, reward, buffer = make_proving(max_steps=2), ProofReward(), ReplayBuffer(duplicates="none")
    fresh = collect(policy, theorems, proving, num_samples=20)
    fresh, calls = evaluate_rewards(fresh, reward, policy, prefixes=False)
    assert calls == 40 and bool(fresh.correct_B.any())
    held = to_trajectories(fresh, reward.combine(fresh.terms, fresh, 0), optimizer_step=3)
    assert {len(trajectory.steps) for trajectory in held} == {1, 2}
    buffer.add(held)
    restored = ReplayBuffer(duplicates="none")
    restored.load_state_dict(buffer.state_dict())
    again = collect(policy, theorems, proving, shares=REPLAY, buffer=restored, num_samples=10)
    assert again.sources == ("replay",) * 20 and again.episodes == (None,) * 20
    assert again.behaviour_log_pf_NT is None
    known = {row[:2]: (row[2], b) for b, row in enumerate(by_trajectory(fresh))}
    policy.score = None  # replay pays for nothing
    judged, calls = evaluate_rewards(again, reward, policy, prefixes=False)
    assert calls == 0
    for b, (problem, text, steps, _) in enumerate(by_trajectory(again)):
        expected, old = known[problem, text]
        assert steps == expected
        assert judged.terms["proof"][b] == fresh.terms["proof"][old] and judged.correct_B[b] == fresh.correct_B[old]
    assert environment_steps(judged) == 0


def test_replay_and_fresh_attempts_in_one_batch(policy, theorems, make_proving, collect) -> None:
    policy.freeze_reference()
    proving, reward = make_proving(max_steps=2), SumReward({"proof": WeightedReward(ProofReward(), temperature=2.0)})
    fresh, _ = evaluate_rewards(collect(policy, theorems[:1], proving), reward, policy, prefixes=False)
    buffer = ReplayBuffer()
    buffer.add(to_trajectories(fresh, reward.combine(fresh.terms, fresh, 0), optimizer_step=0))
    mixed = collect(policy, theorems, proving, shares=REPLAY, buffer=buffer)
    assert set(mixed.sources[:6]) == {"replay"} and set(mixed.sources[6:]) == {"on_policy"}
    assert collect.metrics["fallbacks_replay"] == 1
    mixed, calls = evaluate_rewards(mixed, reward, policy, prefixes=False)
    assert calls == 6
    alone, _ = evaluate_rewards(collect(policy, theorems[1:], proving), reward, policy, prefixes=False)
    assert torch.equal(mixed.terms["proof/proof"][6:], alone.terms["proof/proof"])
    assert bool(mixed.terms["proof/proof"].isfinite().all())


def test_a_reference_proof_is_run_and_comes_first(policy, theorems, make_proving, collect) -> None:
    plain = by_trajectory(collect(policy, theorems, make_proving(), num_samples=4))
    rollouts = collect(policy, theorems, make_proving(), shares=REFERENCE, num_samples=4)
    found = by_trajectory(rollouts)
    for p, problem in enumerate(theorems):
        episode = found[4 * p][3]
        assert rollouts.sources[4 * p : 4 * p + 4] == ("reference", "on_policy", "on_policy", "on_policy")
        assert episode.tactics in problem.theorem.proofs and episode.outcome == "proved"
        texts = [row[1] for row in found[4 * p + 1 : 4 * p + 4]]
        assert texts == [row[1] for row in plain[4 * p + 1 : 4 * p + 4]], "the others are as without it"
    given_N = torch.tensor([source == "reference" for source in rollouts.sources])[rollouts.trajectory_index_N]
    assert rollouts.behaviour_log_pf_NT is not None and not rollouts.behaviour_log_pf_NT[given_N].any()
    assert bool((rollouts.behaviour_log_pf_NT[~given_N] < 0.0).any(1).all())
    assert collect.metrics["fallbacks_reference"] == 0
    drawn = {
        by_trajectory(collect(policy, theorems[:1], make_proving(), shares=REFERENCE, num_samples=1, step=step))[0][1]
        for step in range(8)
    }
    assert len(drawn) == 2, "both known proofs are drawn"


@pytest.mark.parametrize("proof", [("exact hq",), ("constructor", "exact hp"), ("left", "exact hp", "exact hp")])
def test_a_reference_proof_that_fails_is_an_ordinary_sample(policy, theorems, make_proving, collect, proof) -> None:
    wrong = replace(theorems[0], theorem=replace(theorems[0].theorem, proofs=(proof,)))
    rollouts = collect(policy, [wrong], make_proving(), shares=REFERENCE)
    assert collect.metrics["fallbacks_reference"] == 1 and rollouts.sources == ("on_policy",) * 6
    plain = by_trajectory(collect(policy, theorems[:1], make_proving()))
    assert [row[:3] for row in by_trajectory(rollouts)] == [row[:3] for row in plain]
    assert rollouts.behaviour_log_pf_NT is not None


def test_always_reference_adds_one_to_every_group(policy, theorems, make_proving, collect) -> None:
    shares = {"always_reference": True, "on_policy": 1.0}
    plain = by_trajectory(collect(policy, theorems, make_proving(), num_samples=4))
    found = collect(policy, theorems, make_proving(), shares=shares, num_samples=4)
    assert found.problem_index_B.tolist() == [0] * 5 + [1] * 5
    assert found.sources == (("reference", *["on_policy"] * 4) * 2)
    rows = by_trajectory(found)
    assert [row[:3] for row in rows[1:5] + rows[6:]] == [row[:3] for row in plain]
    unknown = [replace(item, theorem=replace(item.theorem, proofs=())) for item in theorems]
    found = collect(policy, unknown, make_proving(), shares=shares, num_samples=4)
    assert found.sources == ("on_policy",) * 10 and collect.metrics["fallbacks_reference"] == 2
    assert found.behaviour_log_pf_NT is not None


def test_always_reference_for_problems_of_one_step(policy) -> None:
    problems = [Problem(f"p{i}", "x", solutions=("left", "exact hp")[: i + 1]) for i in range(2)]
    sampler = RolloutSampler(num_samples=3, behaviour=BehaviourMix(always_reference=True), seed=0)
    rollouts = sampler.collect(policy, problems, rollout_step=0, buffer=None, device="cpu").rollouts
    assert rollouts.sources == ("reference", *["on_policy"] * 3) * 2
    assert rollouts.completions[0] == "left"
    with pytest.raises(ValueError, match="set reference to 0"):
        BehaviourMix(on_policy=0.5, reference=0.5, always_reference=True)


class Given(ProofBehaviour):
    def __init__(self, *episodes: Episode) -> None:
        self.episodes = episodes

    def find(
        self,
        policy: Any,
        problems: Sequence[Problem],
        num_samples: int,
        proving: Proving,
        *,
        seed: int,
        rollout_step: int,
    ) -> Found:
        found = tuple(FoundEpisode(episode) for episode in self.episodes)
        return Found((found,) * len(problems), {"generated_tokens": 70, "environment_steps": 50})


def test_what_a_search_found_is_taken_if_sampling_could_have_made_it(policy, theorems, make_proving, collect) -> None:
    proof = Episode(("a", "b"), ("left", "exact hp"), "proved")
    early = Episode(("a",), ("left",), "unfinished", final_state="b")
    proving = make_proving(search=Given(proof, early), max_steps=2)
    rollouts = collect(policy, theorems[1:], proving, shares={"on_policy": 0.0, "search": 1.0}, num_samples=3)
    assert rollouts.sources == ("search", "on_policy", "on_policy") and rollouts.episodes[0] == proof
    prompt = proving.proof_prompt
    assert by_trajectory(rollouts)[0][2] == [
        (policy.encode_prompt(prompt("a")), [TACTIC_LEFT]), (policy.encode_prompt(prompt("b", ["left"])), [1]),
    ]  # fmt: skip
    collector = RewardedSampler(collect.sampler, ProofSuccess(), False)
    batch = collector.collect(policy, theorems[1:], rollout_step=4, optimizer_step=0, buffer=None, device="cpu")
    own = sum(len(action) for n, action in enumerate(batch.rollouts.action_lists()) if n >= 2)
    assert batch.generated_tokens == 70 + own
    assert batch.environment_steps == 50 + environment_steps(batch.rollouts)
    with pytest.raises(ValueError, match=r"proving\.search"):
        make_sampler(make_proving(), num_samples=1, behaviour=BehaviourMix(on_policy=0.0, search=1.0), seed=0)


TACTIC_LEFT = 4


def test_a_theorem_that_cannot_be_stated_is_left_out(policy, theorems, unstated, make_proving, collect) -> None:
    batch = [theorems[0], unstated, theorems[1]]
    rollouts = collect(policy, batch, make_proving(), num_samples=4, step=0)
    assert rollouts.problems == tuple(batch) and rollouts.problem_index_B.tolist() == [0] * 4 + [2] * 4
    assert collect.metrics["statement_failures"] == 1.0
    with pytest.raises(ValueError, match="theorem 'unstated'"):
        collect(policy, [unstated], make_proving(), step=0)
    later = collect(policy, [unstated], make_proving(), num_samples=4, step=9)
    assert later.num_trajectories == 4 and {episode.error_kind for episode in later.episodes} == {"statement"}
    assert all(len(episode.tactics) == 1 for episode in later.episodes)


def test_problems_that_are_no_theorems_are_refused(policy, make_proving, collect) -> None:
    with pytest.raises(ValueError, match="'plain' is no theorem"):
        collect(policy, [Problem("plain", "1 + 1")], make_proving())


def test_trajectories_of_different_lengths_are_exchanged_and_selected(policy, theorems, make_proving, collect) -> None:
    first, second = (collect(policy, theorems, make_proving(max_steps=2), num_samples=9, step=step) for step in (1, 2))
    first, second = (evaluate_rewards(part, ProofSuccess(), policy, prefixes=False)[0] for part in (first, second))
    rows = {b: (b + 3) % 9 + 9 * (b // 9) for b in range(0, 18, 2)}
    joined = exchange_rows(first, second, rows)
    before, after, mixed = by_trajectory(first), by_trajectory(second), by_trajectory(joined)
    assert any(len(before[b][2]) != len(after[new][2]) for b, new in rows.items()), "some differ in their steps"
    for b in range(18):
        assert mixed[b] == (after[rows[b]] if b in rows else before[b])
        old = second if b in rows else first
        assert joined.correct_B[b] == old.correct_B[rows.get(b, b)]
        assert joined.terms["proved"][b] == old.terms["proved"][rows.get(b, b)]
    picked = select_trajectories(first, [9, 2])
    assert by_trajectory(picked) == [before[9], before[2]]
    assert by_trajectory(concatenated(first, second))[18:] == [
        (first.problems[int(second.problem_index_B[b])].id, *row[1:]) for b, row in enumerate(after)
    ]


def test_steps_left_behind_are_noticed(policy, theorems, make_proving, collect, monkeypatch) -> None:
    """The check above fails where an exchanged trajectory keeps the rows of the other."""
    first, second = (collect(policy, theorems, make_proving(max_steps=2), num_samples=9, step=step) for step in (1, 2))
    monkeypatch.setattr(batching, "_stacked", lambda a, b, left=False: torch.cat([a, a])[: len(a) + len(b)])
    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        assert by_trajectory(concatenated(first, second))[18:] == by_trajectory(second)


def test_equal_groups_are_drawn_again(policy, theorems, make_proving) -> None:
    sampler = EpisodeSampler(make_proving(), num_samples=3, behaviour=BehaviourMix(), seed=1)
    batches = [
        RewardedSampler(sampler, ProofSuccess(), False, resample).collect(
            policy, theorems, rollout_step=number, optimizer_step=0, buffer=None, device="cpu"
        )
        for number in range(4)
        for resample in (None, ResampleSettings(8))
    ]
    mixed = [len(set(batch.log_reward.terminal_B[:3].tolist())) > 1 for batch in batches]
    assert sum(mixed[1::2]) > sum(mixed[::2])
    assert all(
        (batch.log_reward.terminal_B == 1.0).tolist() == [e.outcome == "proved" for e in batch.rollouts.episodes]
        for batch in batches
    )
    assert isinstance(batches[1].log_reward, LogReward) and batches[1].environment_steps > batches[0].environment_steps
