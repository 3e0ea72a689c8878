"""Principals that learn nothing: fixed incentives, none, and oracles that know the world."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.equilibria import best_incentives
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.learning import run_round
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.world import World


class FixedIncentives(Principal):
    """The same incentives in every round.

    Args:
        values: one number a name of the world's incentive space; the smallest ones (no incentive) if None.
    """

    def __init__(self, values: Sequence[float] | None = None) -> None:
        super().__init__()
        self.values = values

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        super().setup(world, agents, rng)
        given = self.values if self.values is not None else [self.space.low] * self.space.size
        self.proposal = Proposal(self.space.checked(given, "principal.values"))

    def propose(self, context: int) -> Proposal:
        return self.proposal


class EquilibriumOracle(Principal):
    """The incentives under which the socially best profile of an Escape Room is the only stationary equilibrium.

    Args:
        levels: values of each incentive that are looked through.
    """

    def __init__(self, levels: int = 6) -> None:
        super().__init__()
        self.levels = levels

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        """Enumerate.

        Raises:
            ValueError: the world is no Escape Room.
        """
        if not isinstance(world, EscapeRoom):
            raise ValueError(
                f"EquilibriumOracle enumerates an Escape Room, not {type(world).__name__}: use ExhaustiveOracle"
            )
        super().setup(world, agents, rng)
        levers = range(world.num_levers)
        self.found = [Proposal(best_incentives(world, lever, levels=self.levels)) for lever in levers]

    def propose(self, context: int) -> Proposal:
        return self.found[context]


class ExhaustiveOracle(Principal):
    """The best incentives of a grid, each tried beforehand on many populations that no budget counts.

    Args:
        levels: values of each incentive, evenly spaced between the bounds.
        populations: tried with every combination.
        finalists: combinations that are tried again, and judged by that second try alone.
        second_look: populations of each finalist.
    """

    def __init__(self, levels: int = 3, populations: int = 2, finalists: int = 8, second_look: int = 16) -> None:
        super().__init__()
        self.levels, self.populations = levels, populations
        self.finalists, self.second_look = finalists, second_look

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        """Try everything."""
        super().setup(world, agents, rng)
        grid = np.linspace(self.space.low, self.space.high, self.levels)
        arms = np.array(list(product(grid, repeat=self.space.size)))
        self.found: list[Proposal] = []
        for context in range(len(self.space.contexts)):
            first = self.welfare(arms, context, self.populations)
            best = arms[np.argsort(-first, kind="stable")[: self.finalists]]
            second = self.welfare(best, context, self.second_look)
            self.found.append(Proposal(tuple(best[second.argmax()].tolist())))

    def welfare(self, arms: np.ndarray, context: int, populations: int) -> np.ndarray:
        """Mean welfare of each combination, 32 populations at once."""
        found = []
        at_once = max(1, 32 // populations)
        for start in range(0, len(arms), at_once):
            tried = arms[start : start + at_once].repeat(populations, axis=0)
            outcome = run_round(self.world, self.agents, tried, np.full(len(tried), context), self.rng)
            found.append(outcome.welfare_P.reshape(-1, populations).mean(1))
        return np.concatenate(found)

    def propose(self, context: int) -> Proposal:
        return self.found[context]
