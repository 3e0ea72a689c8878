"""Held trajectories are compared by the reward as it combines their terms now, not as it was when they came."""

from __future__ import annotations

import io
import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.schedules import Linear
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.types import CORRECT, LogReward, Rollouts, Step, Trajectory

SHIFT = (0.0, 1.0, 100)


class Term(Reward):
    """The stored term of this name; counts how often it combines, and how many trajectories."""

    provides = frozenset({"log_reward_B"})
    is_constant = True

    def __init__(self) -> None:
        self.asked: list[int] = []

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        raise AssertionError("ranking must never pay for terms")

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        assert set(terms) == {"value"} and terms["value"].shape == (rollouts.num_trajectories,)
        self.asked.append(rollouts.num_trajectories)
        return LogReward(terms["value"])


def moving() -> SumReward:
    """(1 - t) old + t new, with t going from 0 to 1 in 100 steps."""
    first, second, steps = SHIFT
    return SumReward(
        {
            "old": WeightedReward(Term(), weight=Linear(second, first, steps)),
            "new": WeightedReward(Term(), weight=Linear(first, second, steps)),
        }
    )


def at(step: int, old: float, new: float) -> float:
    share = min(step / SHIFT[2], 1.0)
    return (1.0 - share) * old + share * new


def make(index: int, old: float, new: float, step: int = 0, problem: str = "p", tokens: Any = None) -> Trajectory:
    """A prefix term whose last value counts, a scalar one and a verdict."""
    action = tuple(tokens) if tokens is not None else (index,)
    terms = {"old/value": (*(99.0 for _ in action), old), "new/value": (new,), CORRECT: (1.0,)}
    return Trajectory(problem, (Step((1,), action),), str(index), terms, at(step, old, new), step)


VALUES = [(0.0, -3.0), (-1.0, -2.0), (-2.0, -1.0), (-3.0, 0.0)]


def buffer_of(**settings: Any) -> ReplayBuffer:
    buffer = ReplayBuffer(**settings)
    buffer.add(make(i, *values) for i, values in enumerate(VALUES))
    return buffer


@pytest.mark.parametrize("step", [0, 25, 50, 100, 300])
def test_draws_have_the_present_weights(step: int) -> None:
    buffer = buffer_of(sampling="reward", temperature=0.5)
    buffer.rank_by(moving(), step)
    count = 4000
    drawn = Counter(found.completion for found in buffer.sample("p", count, [(i + 0.5) / count for i in range(count)]))
    weights = [math.exp(at(step, *values) / 0.5) for values in VALUES]
    for i, weight in enumerate(weights):
        assert drawn[str(i)] / count == pytest.approx(weight / sum(weights), abs=2 / count)


@pytest.mark.parametrize("per_problem", [True, False])
def test_the_one_that_is_lowest_now_leaves(per_problem: bool) -> None:
    for step, gone in ((0, "3"), (100, "0")):
        buffer = buffer_of(capacity=4, per_problem=per_problem)
        buffer.rank_by(moving(), step)
        buffer.add([make(9, -1.0, -1.0, step)])
        assert gone not in {found.completion for found in buffer.sample("p", 400, [i / 400 for i in range(400)])}
        assert len(buffer) == 4


def test_a_near_duplicate_must_be_better_now() -> None:
    base, near = range(12), [*range(11), 50]
    for step, taken in ((0, 0), (100, 1)):
        buffer = ReplayBuffer(duplicates="edit_distance", tolerance=0.2)
        buffer.add([make(0, 0.0, -3.0, tokens=base)])
        buffer.rank_by(moving(), step)
        assert buffer.add([make(1, -1.0, -2.0, step, tokens=near)]) == taken


@pytest.mark.parametrize("per_problem", [True, False])
@pytest.mark.parametrize("duplicates", ["exact", "edit_distance"])
def test_a_stream_is_ranked_as_if_its_log_rewards_were_written_anew(per_problem: bool, duplicates: str) -> None:
    """Oracle: a buffer that is emptied and filled with present log rewards, in order of arrival, before each move."""
    generator = random.Random(3)
    settings: dict[str, Any] = {
        "capacity": 5, "per_problem": per_problem, "duplicates": duplicates, "sampling": "reward",
    }  # fmt: skip
    buffer, oracle, reward = ReplayBuffer(**settings), ReplayBuffer(**settings), moving()
    held: list[Trajectory] = []
    differs = False
    for step in range(0, 120, 2):
        tokens = [generator.randrange(3) for _ in range(generator.randrange(1, 7))]
        old, new = generator.randrange(-9, 1), generator.randrange(-9, 1)
        newcomer = make(step, old, new, step, f"p{generator.randrange(2)}", tokens)
        state = oracle.state_dict()
        terms = [(oracle_old, oracle_new) for oracle_old, oracle_new in map(of_terms, held)]
        now = [at(step, *values) for values in terms]
        differs |= now != state["log_rewards"].tolist()
        oracle.load_state_dict({**state, "log_rewards": torch.tensor(now, dtype=torch.float64)})
        buffer.rank_by(reward, step)
        assert buffer.add([newcomer]) == oracle.add([newcomer])
        uniforms = [generator.random() for _ in range(4)]
        for problem in (None, "p0", "p1"):
            drawn = [found.completion for found in buffer.sample(problem, 4, uniforms)]
            assert drawn == [found.completion for found in oracle.sample(problem, 4, uniforms)]
        by_name = {found.completion: found for found in [*held, newcomer]}
        held = [by_name[name] for name in oracle.state_dict()["completions"]]
        assert buffer.state_dict()["completions"] == oracle.state_dict()["completions"]
    assert differs, "a buffer that kept its log rewards would have had others"


def of_terms(trajectory: Trajectory) -> tuple[float, float]:
    return trajectory.terms["old/value"][-1], trajectory.terms["new/value"][0]


def test_a_restored_buffer_goes_on_bit_for_bit() -> None:
    straight, first, restored = (ReplayBuffer(capacity=6, sampling="reward") for _ in range(3))
    generator = random.Random(0)
    stream = [make(i, generator.gauss(0, 1), generator.gauss(0, 1), i) for i in range(90)]
    for buffer in (straight, first):
        for i in range(40):
            buffer.rank_by(moving(), i)
            buffer.add([stream[i]])
    first.sample("p", 3, [0.1, 0.5, 0.9])  # what was asked of one process alone changes nothing
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for i in range(40, 90):
        uniforms = [generator.random() for _ in range(3)]
        for buffer in (straight, restored):
            buffer.rank_by(moving(), i)
        assert straight.sample("p", 3, uniforms) == restored.sample("p", 3, uniforms)
        assert straight.add([stream[i]]) == restored.add([stream[i]])
    assert str(straight.state_dict()) == str(restored.state_dict())


def test_terms_are_combined_only_where_a_schedule_moved_and_someone_asks() -> None:
    reward = moving()
    asked = reward.summands["old"].reward.asked  # type: ignore[attr-defined]
    buffer = buffer_of(sampling="reward")
    buffer.add([make(7, -1.0, -1.0, problem="q")])
    buffer.rank_by(reward, 10)
    assert asked == []
    for _ in range(3):
        buffer.rank_by(reward, 10)
        buffer.sample("p", 2, [0.1, 0.2])
    assert asked == [4], "all of one problem at once, once"
    for step in (100, 101, 200):  # the schedule has ended
        buffer.rank_by(reward, step)
        buffer.sample("p", 2, [0.1, 0.2])
    assert asked == [4, 4]
    uniform = buffer_of(sampling="uniform", eviction="oldest")
    uniform.rank_by(reward, 10)
    uniform.sample("p", 2, [0.1, 0.2])
    assert asked == [4, 4], "nothing is compared"


def test_rewards_say_what_they_depend_on() -> None:
    assert AnswerMatch().schedule_values(3) == ()
    assert moving().schedule_values(25) == (0.75, 0.25)
    nested = SumReward({"a": WeightedReward(moving(), temperature=2.0)})
    assert nested.schedule_values(100) == (0.5, 0.0, 1.0)

    class Own(Term):
        is_constant = False

    assert Own().schedule_values(3) != Own().schedule_values(4), "a reward that says nothing may change at any step"


def test_a_log_reward_that_is_not_finite_is_named() -> None:
    buffer = buffer_of(sampling="reward")
    buffer.rank_by(SumReward({"old": WeightedReward(Term(), weight=Linear(1.0, math.inf, 10))}), 10)
    with pytest.raises(ValueError, match="problem 'p' at optimiser step 10 is not finite: check the weights"):
        buffer.sample("p", 1, [0.5])
