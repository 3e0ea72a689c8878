"""A world as one environment of PettingZoo's parallel interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from lightning_gfn.mechanism.world import World

Observation = NDArray[np.float32]


class ParallelWorld(ParallelEnv[str, Observation, int]):
    """One copy of a world for agents of any origin; rewards hold the incentives that a principal has set.

    ``infos`` tell each agent's reward without incentives (``raw_reward``), the events that are paid for (``events``)
    and, the same for all, the facts of the step (``facts``).

    Args:
        world: the game.
        incentives: η, one number a name of the world's incentive space; None pays nothing.
        context: name of the context of all episodes; None draws one in each.
    """

    def __init__(self, world: World, incentives: Sequence[float] | None = None, context: str | None = None) -> None:
        self.world = world
        self.metadata = {"name": f"{world.name}_v0", "render_modes": []}
        self.possible_agents = [f"agent_{number}" for number in range(world.num_agents)]
        self.agents: list[str] = []
        if context is not None and context not in world.space.contexts:
            raise ValueError(f"context is {context!r}, expected one of {', '.join(world.space.contexts)}")
        self.context = context
        self.set_incentives(incentives if incentives is not None else [world.space.low] * world.space.size)
        self.rng = np.random.default_rng()
        self._observations = {
            agent: spaces.Box(-np.inf, np.inf, (world.num_features,), np.float32) for agent in self.possible_agents
        }
        self._actions = {agent: spaces.Discrete(world.num_actions) for agent in self.possible_agents}

    def set_incentives(self, incentives: Sequence[float]) -> None:
        """Pay so much from the next step on.

        Raises:
            ValueError: they do not fit the world.
        """
        self.incentives = np.array(self.world.space.checked(incentives, "incentives"))

    def observation_space(self, agent: str) -> spaces.Space[Observation]:
        """What an agent sees."""
        return self._observations[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """What an agent can do."""
        return self._actions[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin an episode.

        Args:
            seed: starts the random numbers anew; None goes on with them.
            options: none are known.
        """
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        contexts = self.world.space.contexts
        number = int(self.rng.integers(len(contexts))) if self.context is None else contexts.index(self.context)
        self.agents = list(self.possible_agents)
        self.steps = 0
        features = self.world.reset(np.array([number]), self.rng)[0]
        return self._seen(features), {agent: {"context": contexts[number]} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Let all agents act.

        Args:
            actions: by agent.
        """
        chosen = np.array([[int(actions[agent]) for agent in self.agents]])
        step = self.world.step(chosen)
        self.steps += 1
        ended = self.steps >= self.world.episode_length
        paid = step.reward_WN[0] + step.events_WNK[0] @ self.incentives
        facts = dict(zip(self.world.facts, step.facts_WM[0].tolist(), strict=True))
        raw, events = step.reward_WN[0].tolist(), step.events_WNK[0]
        agents = self.agents
        infos = {agent: {"raw_reward": raw[n], "events": events[n], "facts": facts} for n, agent in enumerate(agents)}
        result = (
            self._seen(step.features_WNF[0]),
            dict(zip(agents, paid.tolist(), strict=True)),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, ended),
            infos,
        )
        if ended:
            self.agents = []
        return result

    def _seen(self, features_NF: NDArray[np.float64]) -> dict[str, Observation]:
        return {agent: features_NF[n].astype(np.float32) for n, agent in enumerate(self.agents)}
