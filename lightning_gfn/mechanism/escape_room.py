"""Contextual Escape Room: a door pays those who stand at it, if enough others pull the right lever."""

from __future__ import annotations

import numpy as np

from lightning_gfn.mechanism.world import Array, IncentiveSpace, Ints, Step, World, one_hot

DOOR_REWARD = 10.0
COST = 1.0


class EscapeRoom(World):
    """N agents choose a place at each step: one of the levers, the door, or the start.

    The door is open in a step in which at least M agents are at the active lever, the context of the episode:

        open:    +10 at the door, -1 everywhere else
        closed:   -1 for those who moved, 0 for those who stayed

    A principal pays for being at a place, at each step.

    Args:
        num_agents: N.
        min_at_lever: M.
        num_levers: levers, one of which is active.
        episode_length: steps of an episode.
        highest_incentive: the most that a place can pay.

    Raises:
        ValueError: the door could never open, or a number is not positive.

    Source: Yang et al. 2020, arXiv:2006.06051 (Escape Room); Gasztowtt et al. 2024, arXiv:2410.08345 (contexts; the
    numbers are those of its released code).
    """

    name = "escape_room"

    def __init__(
        self,
        *,
        num_agents: int = 5,
        min_at_lever: int = 2,
        num_levers: int = 3,
        episode_length: int = 5,
        highest_incentive: float = 5.0,
    ) -> None:
        if not 1 <= min_at_lever < num_agents:
            raise ValueError(
                f"world.min_at_lever is {min_at_lever}, expected 1 to num_agents - 1 ({num_agents - 1}): someone has "
                "to pull, someone to leave"
            )
        for name, value in (("num_levers", num_levers), ("episode_length", episode_length)):
            if value < 1:
                raise ValueError(f"world.{name} is {value}, expected at least 1")
        if highest_incentive <= 0:
            raise ValueError(f"world.highest_incentive is {highest_incentive}, expected a number above 0")
        self.num_agents, self.min_at_lever, self.num_levers = num_agents, min_at_lever, num_levers
        self.episode_length = episode_length
        self.door, self.start = num_levers, num_levers + 1
        self.num_actions = num_levers + 2
        self.num_features = self.num_actions + 2
        levers = [f"lever {number + 1}" for number in range(num_levers)]
        self.space = IncentiveSpace((*levers, "door", "start"), 0.0, highest_incentive, tuple(levers))
        self.facts = tuple(f"at {place}" for place in self.space.names) + ("door open",)

    @property
    def rules(self) -> str:
        return (
            f"{self.num_agents} agents go to a lever, the door or the start at each of {self.episode_length} steps. If "
            f"{self.min_at_lever} or more are at the active lever, each agent at the door gets {DOOR_REWARD:g} and all "
            f"others lose {COST:g}. Otherwise agents who move lose {COST:g}. You pay agents for where they are."
        )

    def reset(self, context_W: Ints, rng: np.random.Generator) -> Array:
        self.lever_W1 = context_W[:, None]
        self.place_WN = np.full((len(context_W), self.num_agents), self.start)
        return self._features(np.zeros(len(context_W), dtype=bool))

    def step(self, actions_WN: Ints) -> Step:
        moved_WN = actions_WN != self.place_WN
        self.place_WN = actions_WN
        open_W = (actions_WN == self.lever_W1).sum(1) >= self.min_at_lever
        reward_WN = np.where(
            open_W[:, None], np.where(actions_WN == self.door, DOOR_REWARD, -COST), np.where(moved_WN, -COST, 0.0)
        )
        events_WNK = one_hot(actions_WN, self.num_actions)
        facts_WM = np.concatenate([events_WNK.sum(1), open_W[:, None]], axis=1)
        return Step(self._features(open_W), reward_WN, events_WNK, facts_WM)

    def _features(self, open_W: np.ndarray) -> Array:
        """Own place, whether the door was open, and the share of agents at the active lever."""
        share_W1 = (self.place_WN == self.lever_W1).mean(1, keepdims=True)
        common_WN2 = np.stack(np.broadcast_arrays(open_W[:, None], share_W1), axis=-1).repeat(self.num_agents, 1)
        return np.concatenate([one_hot(self.place_WN, self.num_actions), common_WN2], axis=-1)
