from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from lightning_gfn.interfaces import Reward
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.schedules import Linear
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.types import LogReward, Problem, Rollouts

PROBLEMS = [Problem("p", "What?", answer="4")]
TEXTS = ["The answer is: 4", "The answer is: 5", "no"]


def length_reward(completions, **kwargs):
    return [float(len(text)) for text in completions]


@pytest.fixture
def rollouts(make_rollouts) -> Rollouts:
    return make_rollouts(PROBLEMS, TEXTS, [0, 0, 0])


def quickstart_reward() -> SumReward:
    """log R = log p_ref / T + β · correct, T from 2 to 1 over 100 steps."""
    return SumReward(
        {
            "likelihood": WeightedReward(ReferenceLikelihood(), temperature=Linear(2.0, 1.0, 100)),
            "answer": WeightedReward(AnswerMatch(), weight=5.0),
        }
    )


@pytest.mark.parametrize(("step", "temperature"), [(0, 2.0), (50, 1.5), (100, 1.0), (500, 1.0)])
def test_the_sum_equals_a_written_loop(step, temperature, rollouts, policy) -> None:
    reward = quickstart_reward()
    terms, correct_B = reward.terms(rollouts, policy, prefixes=True)
    log_reward = reward.combine(terms, rollouts, step)
    log_p_ref = ReferenceLikelihood().terms(rollouts, policy, prefixes=True)[0]["log_p_ref"]
    correct = AnswerMatch().terms(rollouts, policy, prefixes=True)[0]["correct"]
    assert set(terms) == {"likelihood/log_p_ref", "answer/correct"}
    assert correct_B is not None and correct_B.tolist() == [True, False, False]
    assert log_reward.prefix_BT1 is not None
    for b, text in enumerate(TEXTS):
        for end in range(len(text) + 1):
            by_hand = float(log_p_ref[b, end]) / temperature + 5.0 * float(correct[b, end])
            assert float(log_reward.prefix_BT1[b, end]) == pytest.approx(by_hand, abs=1e-4)
        assert float(log_reward.terminal_B[b]) == pytest.approx(float(log_reward.prefix_BT1[b, len(text)]), abs=1e-5)


def test_the_loop_catches_a_missing_temperature(rollouts, policy) -> None:
    reward = quickstart_reward()
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    untempered = terms["likelihood/log_p_ref"] + 5.0 * terms["answer/correct"]
    assert not torch.allclose(reward.combine(terms, rollouts, 0).terminal_B, untempered, atol=1e-2)
    assert torch.allclose(reward.combine(terms, rollouts, 100).terminal_B, untempered, atol=1e-4)


def test_it_provides_the_intersection_and_needs_the_union() -> None:
    assert quickstart_reward().provides == {"log_reward_B", "log_reward_BT1"}
    assert quickstart_reward().needs_reference
    mixed = SumReward({"a": WeightedReward(AnswerMatch()), "f": WeightedReward(FunctionReward(length_reward))})
    assert mixed.provides == {"log_reward_B"} and not mixed.needs_reference


def test_summands_without_prefix_values(rollouts, policy) -> None:
    mixed = SumReward(
        {"a": WeightedReward(AnswerMatch()), "f": WeightedReward(FunctionReward(length_reward), weight=0.1)}
    )
    terms, correct_B = mixed.terms(rollouts, policy, prefixes=False)
    log_reward = mixed.combine(terms, rollouts, 0)
    assert log_reward.prefix_BT1 is None and correct_B is not None
    assert log_reward.terminal_B.tolist() == pytest.approx([2.6, 1.6, 0.2])
    with pytest.raises(ValueError, match=r"'f' \(FunctionReward\) gives no prefix values"):
        mixed.terms(rollouts, policy, prefixes=True)


def test_equal_rewards_under_two_names_stay_apart_and_sums_nest(rollouts, policy) -> None:
    inner = SumReward(
        {
            "x": WeightedReward(FunctionReward(length_reward)),
            "y": WeightedReward(FunctionReward(length_reward), weight=-3.0),
        }
    )
    outer = SumReward({"inner": WeightedReward(inner, weight=2.0), "answer": WeightedReward(AnswerMatch(), weight=7.0)})
    terms, _ = outer.terms(rollouts, policy, prefixes=False)
    assert set(terms) == {"inner/x/length_reward", "inner/y/length_reward", "answer/correct"}
    expected = [2.0 * (1.0 - 3.0) * len(text) for text in TEXTS]
    expected[0] += 7.0
    assert outer.combine(terms, rollouts, 0).terminal_B.tolist() == pytest.approx(expected)


def test_a_summand_may_combine_as_it_likes(rollouts, policy) -> None:
    class Doubled(Reward):
        provides = frozenset({"log_reward_B"})

        def terms(self, rollouts, policy, *, prefixes):
            return {"value": torch.tensor([1.0, 2.0, 3.0])}, None

        def combine(self, terms: Mapping[str, torch.Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
            return LogReward(terminal_B=2.0 * terms["value"] + optimizer_step)

    reward = SumReward({"d": WeightedReward(Doubled(), temperature=4.0)})
    terms, correct_B = reward.terms(rollouts, policy, prefixes=False)
    assert correct_B is None
    assert reward.combine(terms, rollouts, 2).terminal_B.tolist() == [1.0, 1.5, 2.0]


def test_wrong_settings_are_named(rollouts, policy) -> None:
    with pytest.raises(ValueError, match="'terms' is empty"):
        SumReward({})
    with pytest.raises(ValueError, match="temperature 0.0 at optimiser step 0 must be above 0"):
        WeightedReward(AnswerMatch(), temperature=0.0)
    falling = SumReward({"a": WeightedReward(AnswerMatch(), temperature=Linear(1.0, 0.0, 10))})
    terms, _ = falling.terms(rollouts, policy, prefixes=False)
    falling.combine(terms, rollouts, 9)
    with pytest.raises(ValueError, match="temperature 0.0 at optimiser step 10"):
        falling.combine(terms, rollouts, 10)


def test_terms_of_another_reward_are_refused(rollouts) -> None:
    with pytest.raises(ValueError, match=r"'log_p_ref' is missing.*start with an empty one"):
        quickstart_reward().combine({"answer/correct": torch.zeros(3)}, rollouts, 0)
