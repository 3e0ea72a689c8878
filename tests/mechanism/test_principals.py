"""Principals that know or follow the world, and rounds as they are played."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.principals.bandits import EpsilonGreedy
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.principals.fixed import EquilibriumOracle, ExhaustiveOracle, FixedIncentives
from lightning_gfn.mechanism.principals.meta_gradient import MetaGradient
from lightning_gfn.mechanism.rounds import play_rounds, recommended

ROOM = EscapeRoom()
QUICK = AgentSettings(updates=5, episodes=4, test_episodes=4)


def set_up(principal: Principal, world: EscapeRoom = ROOM, agents: AgentSettings = QUICK) -> Principal:
    principal.setup(world, agents, np.random.default_rng(0))
    return principal


def test_fixed_incentives_are_checked_against_the_world() -> None:
    assert set_up(FixedIncentives()).propose(0).incentives == (0.0,) * 5
    with pytest.raises(ValueError, match=r"principal\.values is \[1\], expected 5 numbers from 0 to 5"):
        set_up(FixedIncentives([1]))


def test_oracles_agree_on_the_active_lever() -> None:
    small = EscapeRoom(num_levers=2)
    exhaustive = set_up(
        ExhaustiveOracle(levels=2, populations=2, finalists=3), small, AgentSettings(updates=40, learning_rate=0.2)
    )
    known = set_up(EquilibriumOracle(levels=3), small)
    for lever in range(2):
        values = exhaustive.propose(lever).incentives
        assert values[lever] == known.propose(lever).incentives[lever] == 5.0 and values[1 - lever] == 0.0


def test_the_gradient_principal_climbs_as_adam_does() -> None:
    import torch

    principal = set_up(MetaGradient(learning_rate=0.3, start=0.2))
    logits = torch.full((5,), float(np.log(0.2 / 0.8)), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.3)
    rng = np.random.default_rng(1)
    for _ in range(5):
        values = 5.0 * torch.sigmoid(logits)
        assert principal.propose(1).incentives == pytest.approx(values.tolist())
        gradient = rng.normal(size=(2, 5))
        adam.zero_grad()
        (-(values * torch.tensor(gradient.mean(0))).sum()).backward()
        adam.step()
        outcome = Outcome(np.zeros(2), np.zeros(2), {}, 0, gradient)
        principal.observe(1, Proposal(principal.propose(1).incentives), outcome)
    assert principal.propose(0).incentives == pytest.approx([1.0] * 5), "other contexts stay"


def test_the_gradient_principal_finds_the_lever() -> None:
    principal = set_up(MetaGradient(learning_rate=0.5), EscapeRoom(num_levers=2), AgentSettings())
    played = list(play_rounds(principal.world, AgentSettings(), principal, rounds=24, populations=1, seed=0))
    assert np.mean([entry.welfare for entry in played[-6:]]) > 100 > np.mean([entry.welfare for entry in played[:4]])


def test_equal_seeds_give_all_principals_the_same_luck() -> None:
    first, second = (
        list(play_rounds(ROOM, QUICK, set_up(make), rounds=4, populations=2, seed=3))
        for make in (FixedIncentives(), FixedIncentives([0.0] * 5))
    )
    other = list(play_rounds(ROOM, QUICK, set_up(FixedIncentives()), rounds=4, populations=2, seed=4))
    assert first == second != other
    assert len({entry.context for entry in [*first, *other]}) > 1
    assert [entry.environment_steps for entry in first] == [240, 480, 720, 960]


def test_the_test_asks_for_recommendations_with_new_agents() -> None:
    bandit = set_up(EpsilonGreedy(levels=2, epsilon=1.0))
    assert isinstance(bandit, EpsilonGreedy)
    played = list(play_rounds(ROOM, QUICK, bandit, rounds=20, populations=1, seed=0))
    found = recommended(ROOM, QUICK, bandit, populations=3, seed=0)
    for context, (proposal, outcome) in zip(ROOM.space.contexts, found, strict=True):
        own = [entry for entry in played if entry.context == context]
        best = max(own, key=lambda entry: entry.welfare)
        assert proposal.incentives == tuple(best.incentives.values()) and outcome.welfare_P.shape == (3,)


def test_the_equilibrium_oracle_refuses_other_worlds() -> None:
    with pytest.raises(ValueError, match="ExhaustiveOracle"):
        EquilibriumOracle().setup(object(), QUICK, np.random.default_rng(0))  # type: ignore[arg-type]
