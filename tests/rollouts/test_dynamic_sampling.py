"""Groups of equal rewards are drawn again: against a written loop, with exact counts and keys of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective, Policy, Reward
from lightning_gfn.objectives.functional.advantages import in_mixed_group
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.rollouts import dynamic_sampling, rewarded_sampler
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings, check_resampling, equal_groups, exchange_rows
from lightning_gfn.rollouts.rewarded_sampler import RewardedSampler, evaluate_rewards
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import LogReward, LossOutput, Problem, Rollouts

SAMPLES = 3
STEP = 5
NUMBER = 6  # a rollout batch with five groups of equal rewards


class Parity(Reward):
    """1 if the length of the completion is even, else 0; problems named ``never…`` always get 0."""

    provides = frozenset({"log_reward_B"})

    def __init__(self) -> None:
        self.rows = 0

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        self.rows += rollouts.num_trajectories
        is_even_B = torch.tensor([len(text) % 2 == 0 for text in rollouts.completions])
        owners = [rollouts.problem_of(b).id for b in range(rollouts.num_trajectories)]
        is_even_B &= torch.tensor([not name.startswith("never") for name in owners])
        return {"even": is_even_B.float()}, is_even_B

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        return LogReward(terms["even"] * (1 + optimizer_step))


class OfPrefixes(Objective):
    """Compares groups by the rewards of their prefixes."""

    requires = frozenset({"group_B", "log_reward_BT1"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        raise AssertionError("never trained")


@pytest.fixture
def mixed_and_hopeless(problems: list[Problem]) -> list[Problem]:
    """Eight problems, the third and the sixth of which nobody solves."""
    return [replace(problem, id=f"never{p}") if p in (2, 5) else problem for p, problem in enumerate(problems)]


def collect(policy: Any, problems: Sequence[Problem], rounds: int | None, **changes: Any) -> RolloutBatch:
    settings = ResampleSettings(rounds) if rounds is not None else None
    sampler = RolloutSampler(num_samples=SAMPLES, behaviour=BehaviourMix(), seed=7)
    collector = RewardedSampler(sampler, changes.get("reward", Parity()), False, settings)
    return collector.collect(
        policy, problems, rollout_step=changes.get("number", NUMBER), optimizer_step=STEP, buffer=None, device="cpu"
    )


def written_loop(policy: Any, problem: Problem, rounds: int) -> tuple[list[str], int, int]:
    """The texts that a problem ends with, tokens and reward calls, one trajectory after the other."""
    sampler = RolloutSampler(num_samples=SAMPLES * (rounds + 1), behaviour=BehaviourMix(), seed=7)
    texts = sampler.collect(policy, [problem], rollout_step=NUMBER, buffer=None, device="cpu").rollouts.completions
    groups = [list(texts[r * SAMPLES : (r + 1) * SAMPLES]) for r in range(rounds + 1)]
    tokens = calls = 0
    for group in groups:
        tokens += sum(len(text) for text in group)
        calls += SAMPLES
        if len({len(text) % 2 for text in group}) > 1 and not problem.id.startswith("never"):
            return group, tokens, calls
    return groups[0], tokens, calls


def test_costs_of_the_first_round_alone_are_noticed(policy, mixed_and_hopeless, monkeypatch: pytest.MonkeyPatch):
    original = rewarded_sampler.refilled

    def forgetful(batch: RolloutBatch, again: RolloutBatch, *rest: Any) -> tuple[RolloutBatch, list[int]]:
        joined, waiting = original(batch, again, *rest)
        return replace(joined, generated_tokens=batch.generated_tokens, reward_calls=batch.reward_calls), waiting

    monkeypatch.setattr(rewarded_sampler, "refilled", forgetful)
    with pytest.raises(AssertionError):
        assert_written_loop(policy, mixed_and_hopeless, 2)


def assert_written_loop(policy: Any, problems: list[Problem], rounds: int) -> None:
    reward = Parity()
    batch = collect(policy, problems, rounds, reward=reward)
    expected = [written_loop(policy, problem, rounds) for problem in problems]
    assert list(batch.rollouts.completions) == [text for texts, _, _ in expected for text in texts]
    assert batch.generated_tokens == sum(tokens for _, tokens, _ in expected)
    assert batch.reward_calls == reward.rows == sum(calls for _, _, calls in expected)
    asked = [calls // SAMPLES - 1 for _, _, calls in expected]
    assert batch.metrics["resample_rounds"] == max(asked) == rounds


@pytest.mark.parametrize("rounds", [1, 2, 6])
def test_it_is_the_written_loop(policy, mixed_and_hopeless, rounds):
    """One long group of the plain sampler gives the samples of all rounds: each has random numbers of its own."""
    assert_written_loop(policy, mixed_and_hopeless, rounds)


def assert_rows_belong_together(policy: Any, rollouts: Rollouts) -> None:
    """Texts, actions, behaviour log-probabilities, terms and verdicts of a batch are of the same trajectories."""
    actions = rollouts.action_lists()
    assert [policy.decode(action) for action in actions] == list(rollouts.completions)
    assert rollouts.action_mask_NT.shape[1] == max(map(len, actions))
    terms, correct_B = Parity().terms(rollouts, policy, prefixes=False)
    assert torch.equal(rollouts.terms["even"], terms["even"]) and torch.equal(rollouts.correct_B, correct_B)
    scores = policy.score(rollouts.steps)
    torch.testing.assert_close(rollouts.behaviour_log_pf_NT, scores.log_pf_NT, atol=1e-5, rtol=1e-5)
    stops_N = rollouts.at_last_prefix(scores.log_pstop_NT1)
    torch.testing.assert_close(rollouts.behaviour_log_pstop_N, stops_N, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("number", [NUMBER, 9])
def test_refilled_groups_are_mixed_and_the_rest_stays(policy, mixed_and_hopeless, number):
    """In the second batch the refilled trajectories are shorter than the longest that was first drawn."""
    once, batch = (collect(policy, mixed_and_hopeless, rounds, number=number) for rounds in (None, 6))
    before, after = equal_groups(once), equal_groups(batch)
    assert after == [2, 5] and len(before) > 3
    assert batch.metrics["share_groups_refilled"] == (len(before) - 2) / 8
    assert batch.metrics["share_groups_left_equal"] == 2 / 8
    assert in_mixed_group(batch.log_reward.terminal_B, batch.rollouts.problem_index_B).sum() == 6 * SAMPLES
    assert torch.equal(batch.log_reward.terminal_B, batch.rollouts.terms["even"] * (1 + STEP))
    kept = [p not in before or p in after for p in range(8) for _ in range(SAMPLES)]
    texts = zip(kept, once.rollouts.completions, batch.rollouts.completions, strict=True)
    assert all(first == second for keep, first, second in texts if keep)
    assert torch.equal(once.rollouts.problem_index_B, batch.rollouts.problem_index_B)
    assert_rows_belong_together(policy, batch.rollouts)


@pytest.mark.parametrize(
    "field",
    ["action_ids_NT", "action_mask_NT", "behaviour_log_pf_NT", "behaviour_log_pstop_N", "completions", "terms"],
)
def test_a_field_left_behind_is_noticed(policy, mixed_and_hopeless, monkeypatch: pytest.MonkeyPatch, field):
    """The check above can fail: for each field that is not taken over."""

    def faulty(rollouts: Rollouts, others: Rollouts, rows: Mapping[int, int]) -> Rollouts:
        width = rollouts.action_mask_NT.shape[1]
        old = getattr(rollouts, field)
        new = exchange_rows(rollouts, others, rows)
        wider = new.action_mask_NT.shape[1] - width
        if field.endswith("_NT"):
            old = torch.nn.functional.pad(old, (0, wider))
        if field in vars(new.steps):
            return replace(new, steps=replace(new.steps, **{field: old}))
        return replace(new, **{field: old})

    monkeypatch.setattr(dynamic_sampling, "exchange_rows", faulty)
    batch = collect(policy, mixed_and_hopeless, 6)
    with pytest.raises(AssertionError):
        assert_rows_belong_together(policy, batch.rollouts)


def test_samples_do_not_depend_on_the_batch(policy, mixed_and_hopeless):
    """Nor, then, on the number of ranks, or on what was sampled before an interruption."""
    whole = collect(policy, mixed_and_hopeless, 6).rollouts.completions
    for order in (range(7, -1, -1), range(0, 8, 2), [5], [6]):
        part = collect(policy, [mixed_and_hopeless[p] for p in order], 6).rollouts.completions
        expected = [whole[p * SAMPLES + sample] for p in order for sample in range(SAMPLES)]
        assert list(part) == expected
    assert collect(policy, mixed_and_hopeless, 6, number=NUMBER + 1).rollouts.completions != whole


def test_rounds_that_repeat_their_uniforms_are_noticed(policy, mixed_and_hopeless, monkeypatch: pytest.MonkeyPatch):
    """Without the round in the key nothing is ever refilled."""
    original = RolloutSampler.collect
    monkeypatch.setattr(
        RolloutSampler, "collect", lambda self, *args, **keys: original(self, *args, **{**keys, "attempt": 0})
    )
    batch = collect(policy, mixed_and_hopeless, 6)
    assert batch.metrics["share_groups_refilled"] == 0.0
    assert equal_groups(batch) != [2, 5]


def test_without_it_a_batch_is_what_sampler_and_reward_give(policy, make_policy: Callable[..., Any], problems):
    batch = collect(policy, problems, None)
    sampler = RolloutSampler(num_samples=SAMPLES, behaviour=BehaviourMix(), seed=7)
    rollouts = sampler.collect(make_policy(), problems, rollout_step=NUMBER, buffer=None, device="cpu").rollouts
    rollouts, calls = evaluate_rewards(rollouts, Parity(), policy, prefixes=False)
    for name in ("action_ids_NT", "action_mask_NT", "behaviour_log_pf_NT", "problem_index_B", "context_ids_NC"):
        assert torch.equal(getattr(batch.rollouts, name), getattr(rollouts, name)), name
    assert torch.equal(batch.rollouts.terms["even"], rollouts.terms["even"])
    assert batch.metrics == {} and batch.reward_calls == calls == 8 * SAMPLES
    assert batch.generated_tokens == int(rollouts.action_mask_NT.sum()) and len(policy.sample_calls) == 1


def test_a_batch_of_mixed_groups_is_sampled_once(policy, mixed_and_hopeless):
    mixed = [p for p in range(8) if p not in equal_groups(collect(policy, mixed_and_hopeless, None))]
    calls = len(policy.sample_calls)
    batch = collect(policy, [mixed_and_hopeless[p] for p in mixed], 6)
    assert len(policy.sample_calls) == calls + 1
    assert batch.metrics == {
        "resample_rounds": 0.0, "share_groups_refilled": 0.0, "share_groups_left_equal": 0.0,
    }  # fmt: skip


def test_where_it_makes_no_sense_it_is_refused():
    with pytest.raises(ValueError, match="resample.max_rounds must be at least 1, got 0"):
        ResampleSettings(0)
    with pytest.raises(ValueError, match="'replay': 0.5.*set model.behaviour.on_policy to 1"):
        check_resampling(GRPO(), BehaviourMix(on_policy=0.5, replay=0.5))
    with pytest.raises(ValueError, match="PPO does not compare trajectories of one problem.*remove model.resample"):
        check_resampling(PPO(), BehaviourMix())
    with pytest.raises(ValueError, match="ModifiedSubTB does not compare"):
        check_resampling(ModifiedSubTB(), BehaviourMix())
    with pytest.raises(ValueError, match="OfPrefixes needs a reward for every prefix"):
        check_resampling(OfPrefixes(), BehaviourMix())
    check_resampling(GRPO(drop_equal_groups=True), BehaviourMix())
