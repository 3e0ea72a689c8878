"""The answer check that errs: equal to the true one without noise, persistent, alike on prefixes and finished texts."""

from __future__ import annotations

import pytest
import torch

from lightning_gfn.answers.noise import flipped
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.noisy import NoisyAnswerMatch
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.batching import select_trajectories
from lightning_gfn.rollouts.rewarded_sampler import evaluate_rewards
from lightning_gfn.types import Problem

PROBLEMS = [Problem("a", "Q?", answer="4"), Problem("b", "R??", answer="42")]
TEXTS = [f"step {i}\nThe answer is: {answer}" for i in range(60) for answer in ("4", "42", "7")] + ["none", ""]
OWNERS = [i % 2 for i in range(len(TEXTS))]


@pytest.fixture
def rollouts(make_rollouts):
    return make_rollouts(PROBLEMS, TEXTS, OWNERS)


@pytest.mark.parametrize("prefixes", [False, True])
def test_no_noise_is_the_answer_check(prefixes, rollouts, policy) -> None:
    (clean, truth_B), (noisy, correct_B) = (
        reward.terms(rollouts, policy, prefixes=prefixes) for reward in (AnswerMatch(), NoisyAnswerMatch(0.0))
    )
    assert clean.keys() == noisy.keys() and torch.equal(clean["correct"], noisy["correct"])
    assert torch.equal(correct_B, truth_B)


def test_noise_turns_a_share_of_verdicts_and_metrics_stay_true(make_rollouts, policy) -> None:
    texts = [f"step {i}\nThe answer is: {i % 2}" for i in range(3000)]
    many = make_rollouts([Problem("a", "Q?", answer="1")], texts, [0] * len(texts))
    terms, correct_B = NoisyAnswerMatch(0.2, seed=5).terms(many, policy, prefixes=False)
    assert torch.equal(correct_B, torch.arange(3000) % 2 == 1)
    wrong_B = terms["correct"].bool() != correct_B
    for verdict in (True, False):
        assert wrong_B[correct_B == verdict].float().mean().item() == pytest.approx(0.2, abs=0.04)
    assert [bool(w) for w in wrong_B] == [flipped("a", text, probability=0.2, seed=5) for text in texts]


def test_a_finished_text_and_a_prefix_with_that_text_get_the_same_reward(rollouts, make_rollouts, policy) -> None:
    reward = NoisyAnswerMatch(0.4)
    terminal, _ = reward.terms(rollouts, policy, prefixes=False)
    prefix, _ = reward.terms(rollouts, policy, prefixes=True)
    assert torch.equal(rollouts.at_last_prefix(prefix["correct"]), terminal["correct"])
    b = TEXTS.index("step 3\nThe answer is: 42")
    ends = list(range(len(TEXTS[b]) + 1))
    cut = make_rollouts(PROBLEMS, [TEXTS[b][:end] for end in ends], [OWNERS[b]] * len(ends))
    alone, _ = reward.terms(cut, policy, prefixes=False)
    assert alone["correct"].tolist() == prefix["correct"][b, : len(ends)].tolist()


def test_texts_without_an_answer_keep_zero(rollouts, policy) -> None:
    terms, _ = NoisyAnswerMatch(1.0).terms(rollouts, policy, prefixes=True)
    before_answer = [text.find(": ") + 2 if ": " in text else len(text) for text in TEXTS]
    for b, end in enumerate(before_answer):
        assert terms["correct"][b, : end + 1].sum() == 0
    assert terms["correct"].sum() > 0


def test_verdicts_do_not_depend_on_the_batch(rollouts, policy) -> None:
    reward = NoisyAnswerMatch(0.3)
    whole, _ = reward.terms(rollouts, policy, prefixes=True)
    order = torch.randperm(len(TEXTS), generator=torch.Generator().manual_seed(0)).tolist()
    for index in (sorted(order[:70]), sorted(order[70:])):
        part, _ = reward.terms(select_trajectories(rollouts, index), policy, prefixes=True)
        torch.testing.assert_close(part["correct"], whole["correct"][index, : part["correct"].shape[1]])


def test_replayed_verdicts_are_those_that_a_fresh_look_gives(rollouts, policy) -> None:
    reward = NoisyAnswerMatch(0.3)
    first, _ = evaluate_rewards(rollouts, reward, policy, prefixes=True)
    first.sources = ("replay",) * len(TEXTS)
    again, calls = evaluate_rewards(first, reward, policy, prefixes=True)
    fresh, _ = reward.terms(rollouts, policy, prefixes=True)
    assert calls == 0 and torch.equal(again.terms["correct"], fresh["correct"])


def test_inside_a_sum_it_is_the_noisy_bonus_and_the_true_metric(rollouts, policy) -> None:
    noisy = NoisyAnswerMatch(0.5)
    total = SumReward({"answer": WeightedReward(noisy, weight=5.0)})
    terms, correct_B = total.terms(rollouts, policy, prefixes=False)
    own, truth_B = noisy.terms(rollouts, policy, prefixes=False)
    assert torch.equal(total.combine(terms, rollouts, 0).terminal_B, 5.0 * own["correct"])
    assert torch.equal(correct_B, truth_B) and not torch.equal(own["correct"].bool(), truth_B)


def test_noise_keyed_by_position_would_be_noticed(rollouts, policy, monkeypatch) -> None:
    count = iter(range(10**6))
    monkeypatch.setattr(
        NoisyAnswerMatch, "judge", lambda self, problem, text, correct: correct != (next(count) % 3 == 0)
    )
    one, _ = NoisyAnswerMatch(0.3).terms(rollouts, policy, prefixes=False)
    other, _ = NoisyAnswerMatch(0.3).terms(select_trajectories(rollouts, list(range(1, 80))), policy, prefixes=False)
    assert not torch.equal(one["correct"][1:80], other["correct"])


def test_a_wrong_probability_fails_before_anything_is_loaded() -> None:
    with pytest.raises(ValueError, match="^probability is 1.2"):
        NoisyAnswerMatch(1.2)
