"""Bandits against written loops, and their regret on a bandit that is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.principals.bandits import UCB, Bandit, EpsilonGreedy, ThompsonSampling

ROOM = EscapeRoom(num_agents=2, min_at_lever=1, num_levers=1)
MEANS = np.array([0.0, 4.0, 1.0, 2.0, 10.0, 3.0, 5.0, 6.0])


def made(make: Callable[[], Bandit], seed: int = 0) -> Bandit:
    bandit = make()
    bandit.setup(ROOM, AgentSettings(), np.random.default_rng(seed))
    return bandit


def pulled(bandit: Bandit, rounds: int, seed: int = 1) -> list[tuple[int, float]]:
    """Rounds on normal arms whose means are known."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(rounds):
        arm = bandit.choose(0)
        welfare = float(rng.normal(MEANS[arm], 1.0))
        bandit.learn(0, arm, welfare)
        found.append((arm, welfare))
    return found


def test_arms_are_all_combinations() -> None:
    bandit = made(lambda: EpsilonGreedy(levels=2))
    assert len(bandit.arms) == 2**3 == len(set(bandit.arms))
    assert bandit.arms[0] == (0.0, 0.0, 0.0) and bandit.arms[-1] == (5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda: EpsilonGreedy(epsilon=0.1, levels=2), 900.0),
        (lambda: UCB(coefficient=2.0, levels=2), 150.0),
        (lambda: ThompsonSampling(levels=2), 400.0),
    ],
    ids=["epsilon_greedy", "ucb", "thompson"],
)
def test_regret_on_a_known_bandit_stays_small(make: Callable[[], Bandit], most: float) -> None:
    bandit = made(make)
    arms = [arm for arm, _ in pulled(bandit, 1000)]
    regret = (MEANS.max() - MEANS[arms]).sum()
    uniform = 1000 * (MEANS.max() - MEANS.mean())
    assert regret < most < uniform / 4
    assert bandit.recommend(0).incentives == bandit.arms[4]


def test_moments_are_those_of_the_pulls() -> None:
    bandit = made(lambda: EpsilonGreedy(epsilon=1.0, levels=2))
    pulls = pulled(bandit, 200)
    for arm in range(8):
        values = np.array([welfare for other, welfare in pulls if other == arm])
        assert bandit.pulls_CA[0, arm] == len(values) > 5
        assert bandit.means_CA[0, arm] == pytest.approx(values.mean())
        assert bandit.squares_CA[0, arm] == pytest.approx(values.var() * len(values))


def test_ucb_tries_all_and_then_follows_its_formula() -> None:
    bandit = made(lambda: UCB(coefficient=3.0, levels=2))
    first = [arm for arm, _ in pulled(bandit, 8)]
    assert sorted(first) == list(range(8)) and first == bandit.order_CA[0].tolist()
    for _ in range(50):
        total = sum(bandit.pulls_CA[0])
        scores = [bandit.means_CA[0, arm] + 3.0 * np.sqrt(np.log(total) / bandit.pulls_CA[0, arm]) for arm in range(8)]
        assert bandit.choose(0) == int(np.argmax(scores))
        pulled(bandit, 1, seed=int(total))


def test_the_posterior_is_that_of_one_pull_after_another() -> None:
    bandit = made(lambda: ThompsonSampling(prior_mean=1.0, prior_count=0.5, prior_shape=2.0, prior_scale=3.0, levels=2))
    pulls = pulled(bandit, 100)
    assert isinstance(bandit, ThompsonSampling)
    centre, total, shape, spread = bandit.posterior(0)
    for arm in range(8):
        m, count, a, b = 1.0, 0.5, 2.0, 3.0
        for x in (welfare for other, welfare in pulls if other == arm):  # the conjugate update of a single value
            b += count * (x - m) ** 2 / (2 * (count + 1))
            m, count, a = (count * m + x) / (count + 1), count + 1, a + 0.5
        assert (centre[arm], total[arm], shape[arm], spread[arm]) == pytest.approx((m, count, a, b))


def test_contexts_learn_apart() -> None:
    bandit = EpsilonGreedy(levels=2, epsilon=0.0)
    bandit.setup(EscapeRoom(num_levers=2), AgentSettings(), np.random.default_rng(0))
    bandit.learn(0, 3, 50.0)
    assert bandit.choose(0) == 3 and bandit.pulls_CA[1].sum() == 0
    assert bandit.recommend(1).incentives == bandit.arms[bandit.order_CA[1, 0]]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: EpsilonGreedy(epsilon=1.2), "epsilon"),
        (lambda: UCB(levels=1), "levels"),
        (lambda: ThompsonSampling(prior_count=0.0), "prior_count"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Bandit], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
