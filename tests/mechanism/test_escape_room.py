"""The Escape Room against a written loop, its equilibria against all joint profiles, and PettingZoo's own checks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lightning_gfn.mechanism.equilibria import (
    best_incentives,
    equilibrium_margins,
    leaving_losses,
    place_counts,
    stationary_welfare,
)
from lightning_gfn.mechanism.escape_room import EscapeRoom

ROOM = EscapeRoom()


def loop_rewards(before: list[int], after: list[int], lever: int) -> list[float]:
    """The rules, agent by agent."""
    is_open = sum(place == lever for place in after) >= 2
    rewards = []
    for old, new in zip(before, after, strict=True):
        if is_open:
            rewards.append(10.0 if new == 3 else -1.0)
        else:
            rewards.append(-1.0 if new != old else 0.0)
    return rewards


def test_steps_are_those_of_a_written_loop() -> None:
    rng = np.random.default_rng(0)
    context = rng.integers(3, size=200)
    ROOM.reset(context, rng)
    before = np.full((200, 5), ROOM.start)
    opened = 0
    for _ in range(ROOM.episode_length):
        actions = rng.integers(ROOM.num_actions, size=(200, 5))
        step = ROOM.step(actions)
        for w in range(200):
            expected = loop_rewards(before[w].tolist(), actions[w].tolist(), int(context[w]))
            assert step.reward_WN[w].tolist() == expected
            opened += step.facts_WM[w, -1] == 1
            for n in range(5):
                assert step.events_WNK[w, n].argmax() == actions[w, n] and step.events_WNK[w, n].sum() == 1
                seen = step.features_WNF[w, n]
                assert seen[:5].argmax() == actions[w, n]
                assert seen[5] == step.facts_WM[w, -1]
                assert seen[6] == pytest.approx((actions[w] == context[w]).mean())
        before = actions
    assert 50 < opened < 950


def joint_equilibria(incentives: tuple[float, ...], lever: int) -> set[tuple[int, ...]]:
    """Counts of every joint profile from which no single agent gains by going elsewhere."""

    def payoff(profile: tuple[int, ...], agent: int) -> float:
        return loop_rewards(list(profile), list(profile), lever)[agent] + incentives[profile[agent]]

    found = set()
    for profile in product(range(5), repeat=5):
        others = [
            payoff((*profile[:n], place, *profile[n + 1 :]), n) <= payoff(profile, n)
            for n in range(5)
            for place in range(5)
        ]
        if all(others):
            found.add(tuple(np.bincount(profile, minlength=5).tolist()))
    return found


@pytest.mark.parametrize("incentives", [(0.0,) * 5, (5.0, 0.0, 0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 3.0, 1.0)])
def test_equilibria_are_those_of_all_joint_profiles(incentives: tuple[float, ...]) -> None:
    counts = place_counts(ROOM)
    margins = equilibrium_margins(leaving_losses(ROOM, 0), np.array(incentives))
    found = {tuple(row) for row, margin in zip(counts.tolist(), margins, strict=True) if margin >= 0}
    assert found == joint_equilibria(incentives, 0)


def test_the_best_incentives_leave_the_social_optimum_alone() -> None:
    best = max(sum(loop_rewards(list(profile), list(profile), 1)) for profile in product(range(5), repeat=5))
    assert best == 28.0 == stationary_welfare(ROOM, 1).max()
    chosen = best_incentives(ROOM, 1)
    assert chosen == (0.0, 5.0, 0.0, 0.0, 0.0)
    assert joint_equilibria(chosen, 1) == {(0, 2, 0, 3, 0)}
    assert sum(loop_rewards([1, 1, 3, 3, 3], [1, 1, 3, 3, 3], 1)) == best


def test_without_incentives_doing_nothing_is_stable() -> None:
    assert (0, 0, 0, 0, 5) in joint_equilibria((0.0,) * 5, 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"min_at_lever": 5}, "min_at_lever"), ({"num_levers": 0}, "num_levers"), ({"highest_incentive": 0.0}, "highest")],
)
def test_rooms_that_make_no_sense_are_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        EscapeRoom(**settings)  # type: ignore[arg-type]
