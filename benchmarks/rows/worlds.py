"""Rollouts of worlds of learning agents: many copies in one array, beside one copy at a time behind PettingZoo."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.frame.machine import needs_package
from benchmarks.frame.row import Contest, Options, Row, Way
from lightning_gfn.mechanism.agents import play, softmax
from lightning_gfn.mechanism.clean_up import CleanUp
from lightning_gfn.mechanism.commons_harvest import CommonsHarvest
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.world import World

POPULATIONS, EPISODES = 4, 16
WORLDS: tuple[type[World], ...] = (EscapeRoom, CommonsHarvest, CleanUp)


def weights_of(world: World) -> np.ndarray:
    """Policies that choose among all actions."""
    shape = (POPULATIONS, world.num_agents, world.num_features, world.num_actions)
    return 0.1 * np.random.default_rng(0).normal(size=shape)


def together(world: World) -> Way:
    """All copies in one array."""
    weights, context = weights_of(world), np.zeros(POPULATIONS, dtype=int)
    return Way(lambda: play(world, weights, context, EPISODES, np.random.default_rng(1)))


def one_by_one(world: World) -> Way:
    """The same policies in one PettingZoo environment, episode after episode."""
    from lightning_gfn.mechanism.parallel import ParallelWorld

    env, weights, rng = (
        ParallelWorld(world, context=world.space.contexts[0]),
        weights_of(world),
        np.random.default_rng(1),
    )

    def run() -> None:
        for episode in range(POPULATIONS * EPISODES):
            own = weights[episode // EPISODES]
            seen, _ = env.reset(seed=episode)
            while env.agents:
                logits = np.einsum("nf,nfa->na", np.stack(list(seen.values())), own)
                actions = (softmax(logits).cumsum(-1) < rng.random((len(logits), 1))).sum(-1)
                seen = env.step(dict(zip(env.agents, actions.tolist(), strict=True)))[0]

    return Way(run)


def contest(make: type[World], options: Options) -> Contest:
    """Environment steps a second of processor time."""
    amount = POPULATIONS * EPISODES * make().episode_length
    peers = {"one copy of PettingZoo": partial(one_by_one, make())}
    return Contest(ours=partial(together, make()), peers=peers, amount=amount, unit="steps")


ROWS = [
    Row(
        name=f"world_{make.name}",
        what=f"rollouts of {make.__name__}, {POPULATIONS * EPISODES} episodes, beside one copy at a time",
        build=partial(contest, make),
        needs=[needs_package("pettingzoo", "pip install lightning-gfn[pettingzoo]")],
    )
    for make in WORLDS
]
