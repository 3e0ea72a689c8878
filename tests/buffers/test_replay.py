"""Every rule of the buffer against a slow reference that keeps plain lists."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.types import Step, Trajectory

RULES = [
    {"duplicates": duplicates, "eviction": eviction, "per_problem": per_problem}
    for duplicates in ("exact", "edit_distance", "none")
    for eviction in ("lowest_reward", "oldest")
    for per_problem in (True, False)
]


def edit_distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def action_of(trajectory: Trajectory) -> tuple[int, ...]:
    return trajectory.steps[0].action


class ReferenceBuffer:
    """The stated rules, written down without any thought of speed."""

    def __init__(self, capacity: int, tolerance: float, duplicates: str, eviction: str, per_problem: bool) -> None:
        self.capacity, self.tolerance, self.duplicates = capacity, tolerance, duplicates
        self.eviction, self.per_problem = eviction, per_problem
        self.held: list[Trajectory] = []

    def is_near(self, a: Trajectory, b: Trajectory) -> bool:
        x, y = action_of(a), action_of(b)
        return a.problem_id == b.problem_id and edit_distance(x, y) < self.tolerance * (len(x) + len(y))

    def add(self, new: Trajectory) -> int:
        same = [old for old in self.held if old.problem_id == new.problem_id and action_of(old) == action_of(new)]
        if same and self.duplicates != "none":
            self.held = [old for old in self.held if old not in same]
        elif self.duplicates == "edit_distance":
            near = [old for old in self.held if self.is_near(old, new)]
            if near and new.log_reward <= max(old.log_reward for old in near):
                return 0
            self.held = [old for old in self.held if old not in near]
        rivals = [old for old in self.held if old.problem_id == new.problem_id or not self.per_problem]
        if len(rivals) >= self.capacity:
            lowest = min(old.log_reward for old in rivals)
            leaving = (
                rivals[0] if self.eviction == "oldest" else next(old for old in rivals if old.log_reward == lowest)
            )
            self.held.remove(leaving)
        self.held.append(new)
        return 1


def contents(buffer: ReplayBuffer, sizes: int = 400) -> list[Trajectory]:
    """Everything held, in order of arrival, read through the public door."""
    count = len(buffer)
    plain = ReplayBuffer(capacity=sizes, per_problem=False, duplicates="none")
    plain.load_state_dict(buffer.state_dict())
    return plain.sample(None, count, [(i + 0.5) / count for i in range(count)]) if count else []


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(str(value) for value in rules.values()))
@pytest.mark.parametrize("seed", range(4))
def test_contents_follow_the_stated_rules(rules, seed, make_trajectories) -> None:
    buffer = ReplayBuffer(capacity=5, tolerance=0.25, **rules)
    reference = ReferenceBuffer(5, 0.25, **rules)
    for trajectory in make_trajectories(seed, 150):
        assert buffer.add([trajectory]) == reference.add(trajectory)
        assert len(buffer) == len(reference.held)
    assert contents(buffer) == reference.held
    per_shelf = {problem: sum(t.problem_id == problem for t in reference.held) for problem in ("p0", "p1", "p2")}
    assert max(per_shelf.values()) <= 5 if rules["per_problem"] else len(buffer) == 5


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        ({"duplicates": "exact"}, {"duplicates": "none"}),
        ({"duplicates": "edit_distance"}, {"duplicates": "exact"}),
        ({"eviction": "oldest"}, {"eviction": "lowest_reward"}),
        ({"per_problem": False}, {"per_problem": True}),
    ],
)
def test_the_reference_tells_the_rules_apart(rules, wrong, make_trajectories) -> None:
    base = {"duplicates": "exact", "eviction": "lowest_reward", "per_problem": True}
    buffer = ReplayBuffer(capacity=5, tolerance=0.25, **{**base, **rules})
    reference = ReferenceBuffer(5, 0.25, **{**base, **wrong})
    for trajectory in make_trajectories(0, 150):
        buffer.add([trajectory])
        reference.add(trajectory)
    assert contents(buffer) != reference.held


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(str(value) for value in rules.values()))
def test_something_is_still_added_when_full(rules) -> None:
    buffer = ReplayBuffer(capacity=8, tolerance=0.05, **rules)
    for i in range(60):
        action = tuple((i * 7 + j * j) % 50 + 50 * (i % 3) for j in range(20))
        newcomer = Trajectory("p", (Step((1,), action),), "", {}, log_reward=-float(i), born=i)
        assert buffer.add([newcomer]) == 1
        assert newcomer in contents(buffer), "a newcomer enters even with the lowest reward of all"
        assert len(buffer) == min(i + 1, 8)


def test_the_best_stay_and_the_last_place_turns_over() -> None:
    buffer = ReplayBuffer(capacity=4)
    rewards = random.Random(0).sample(range(100), 50)
    buffer.add(Trajectory("p", (Step((), (i,)),), "", {}, float(reward)) for i, reward in enumerate(rewards))
    held = [trajectory.log_reward for trajectory in contents(buffer)]
    assert held[-1] == rewards[-1] and set(sorted(rewards[:-1])[-3:]) <= set(held)


def test_an_exact_duplicate_is_refreshed_and_nothing_else_leaves() -> None:
    first = Trajectory("p", (Step((1,), (5, 6)),), "x", {"r": (1.0,)}, -1.0, born=0)
    other = replace(first, steps=(Step((1,), (9, 9)),))
    later = replace(first, log_reward=-4.0, born=9)
    buffer = ReplayBuffer(capacity=2)
    assert buffer.add([first, other, later]) == 3
    assert contents(buffer) == [other, later]


def test_the_same_action_for_another_problem_or_cut_into_other_steps_is_no_duplicate() -> None:
    one = Trajectory("p", (Step((1,), (5, 6, 7)),), "x", {}, 0.0)
    other_problem = replace(one, problem_id="q")
    two_steps = replace(one, steps=(Step((1,), (5,)), Step((1, 5), (6, 7))))
    buffer = ReplayBuffer(per_problem=False)
    assert buffer.add([one, other_problem, two_steps]) == 3 and len(buffer) == 3
    assert contents(buffer) == [one, other_problem, two_steps]


def test_large_token_ids_and_the_largest_distance_below_the_bound() -> None:
    buffer = ReplayBuffer(duplicates="edit_distance", tolerance=0.25)
    base = tuple(range(250_000, 250_008))
    one_off, four_off = (*base[:7], 55_300), (*base[:4], 1, 2, 3, 4)
    make = lambda action, reward: Trajectory("p", (Step((), action),), "", {}, reward)  # noqa: E731
    assert buffer.add([make(base, 0.0), make(one_off, -1.0), make(four_off, -1.0)]) == 2, "4 < 0.25 · 16 is false"
    assert buffer.add([make(one_off, 1.0)]) == 1 and len(buffer) == 2


def test_a_reward_that_is_not_finite_is_named(make_trajectories) -> None:
    with pytest.raises(ValueError, match="log reward nan of problem 'p"):
        ReplayBuffer().add([replace(make_trajectories(0, 1)[0], log_reward=math.nan)])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"capacity": 0}, "capacity=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"half_life": -1.0}, "half_life=-1.0"),
        ({"tolerance": 1.5}, "tolerance=1.5"),
        ({"duplicates": "cosine"}, "duplicates='cosine' is none of"),
        ({"eviction": "newest"}, "eviction='newest'"),
        ({"sampling": "best"}, "sampling='best'"),
    ],
)
def test_wrong_settings_are_named(settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        ReplayBuffer(**settings)
