"""Worlds behind PettingZoo's parallel interface."""

from __future__ import annotations

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from lightning_gfn.mechanism.clean_up import CleanUp
from lightning_gfn.mechanism.commons_harvest import CommonsHarvest
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.parallel import ParallelWorld
from lightning_gfn.mechanism.world import World

WORLDS = [EscapeRoom, CommonsHarvest, CleanUp]


@pytest.mark.parametrize("make", WORLDS)
def test_the_interface_is_kept(make: type[World]) -> None:
    parallel_api_test(ParallelWorld(make()), num_cycles=200)


@pytest.mark.parametrize("make", WORLDS)
def test_equal_seeds_give_equal_episodes(make: type[World]) -> None:
    parallel_seed_test(lambda: ParallelWorld(make()), num_cycles=20)


@pytest.mark.parametrize("make", WORLDS)
def test_rewards_hold_what_the_principal_pays(make: type[World]) -> None:
    world = make()
    incentives = np.linspace(world.space.low, world.space.high, world.space.size)
    env = ParallelWorld(world, incentives.tolist())
    env.reset(seed=0)
    rng, paid = np.random.default_rng(1), 0.0
    while env.agents:
        actions = {agent: int(rng.integers(world.num_actions)) for agent in env.agents}
        _, rewards, _, _, infos = env.step(actions)
        for agent, info in infos.items():
            added = float(info["events"] @ incentives)
            assert rewards[agent] == pytest.approx(info["raw_reward"] + added)
            paid += abs(added)
    assert paid > 0


def test_an_unknown_context_is_refused() -> None:
    with pytest.raises(ValueError, match="lever 3"):
        ParallelWorld(EscapeRoom(), context="lever 4")
    with pytest.raises(ValueError, match="expected 5 numbers from 0 to 5"):
        ParallelWorld(EscapeRoom(), incentives=[9.0] * 5)
