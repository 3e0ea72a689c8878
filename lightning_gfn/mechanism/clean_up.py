"""Clean Up: apples grow only while the river is clean, and cleaning it pays nobody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_gfn.mechanism.grid import Bodies, GridWorld
from lightning_gfn.mechanism.world import Array, IncentiveSpace, Ints, Step

ROWS = (
    "RRRRRRR",
    "RRRRRRR",
    "P.P.P.P",
    ".......",
    "P.P.P.P",
    "AAAAAAA",
    "AAAAAAA",
)


class CleanUp(GridWorld):
    """N agents eat apples, worth 1 each, that grow while the river is clean; a beam cleans and costs a little.

    In each step a clean river cell gets waste with probability ``pollution``, and an empty apple cell without an agent
    grows an apple with probability

        growth · max(0, 1 - waste share / depletion)

    An episode begins without apples and with waste on every river cell. The beam cleans the first three cells ahead;
    firing costs ``cleaning_cost`` if it cleaned something, else nothing. A principal pays for each step in which an
    agent ate an apple, cleaned waste without eating, or did neither.

    Args:
        num_agents: N.
        episode_length: steps of an episode.
        rows: the map: ``R`` is river, ``A`` grows apples, ``P`` is where agents begin, ``#`` is a wall.
        pollution: probability that a clean river cell gets waste, in a step.
        growth: probability of an apple where the river is clean.
        depletion: share of waste from which on nothing grows.
        cleaning_cost: what it costs to clean.
        highest_incentive: the most that is paid for a step.

    Raises:
        ValueError: the map or a number makes no sense.

    Source: Hughes et al. 2018, arXiv:1803.08884; Leibo et al. 2021, arXiv:2107.06857 (Melting Pot), smaller here;
    incentives: Gasztowtt et al. 2024, arXiv:2410.08345 and its released code.
    """

    name = "clean_up"

    def __init__(
        self,
        *,
        num_agents: int = 5,
        episode_length: int = 60,
        rows: Sequence[str] = ROWS,
        pollution: float = 0.02,
        growth: float = 0.1,
        depletion: float = 0.6,
        cleaning_cost: float = 0.1,
        highest_incentive: float = 3.0,
    ) -> None:
        super().__init__(rows, num_agents, episode_length)
        for name, value in (("pollution", pollution), ("growth", growth), ("depletion", depletion)):
            if not 0 < value <= 1:
                raise ValueError(f"world.{name} is {value}, expected a number in (0, 1]")
        if cleaning_cost < 0 or highest_incentive <= 0:
            raise ValueError(
                f"world.cleaning_cost is {cleaning_cost}, expected at least 0, and world.highest_incentive "
                f"{highest_incentive}, expected more than 0"
            )
        self.pollution, self.growth, self.depletion, self.cleaning_cost = pollution, growth, depletion, cleaning_cost
        self.river_C = self.grid.cells("R")
        if not self.river_C.any() or not self.orchard_C.any():
            raise ValueError("world.rows needs river (R) and apple cells (A)")
        self.space = IncentiveSpace(("eating", "cleaning", "neither"), 0.0, highest_incentive, ("clean up",))
        self.facts = ("apples eaten", "waste cleaned", "waste left")
        self.num_features = Bodies.NUM_SENSES + 10 + 3

    @property
    def rules(self) -> str:
        return (
            f"{self.num_agents} agents eat apples, one point each. Apples grow only while the river is clean, and "
            f"waste keeps coming. Cleaning costs {self.cleaning_cost:g}. You pay agents in each step for eating, for "
            "cleaning, or for neither."
        )

    def reset(self, context_W: Ints, rng: np.random.Generator) -> Array:
        copies = len(context_W)
        self.begin(copies, rng)
        self.apples_WC = np.zeros((copies, self.grid.num_cells), dtype=bool)
        self.waste_WC = np.tile(self.river_C, (copies, 1))
        return self._features()

    def step(self, actions_WN: Ints) -> Step:
        bodies, worlds = self.bodies, self.bodies.worlds_W[:, None]
        bodies.move(actions_WN)
        before_W = self.waste_WC.sum(1)
        cleans_WN = self._clean(bodies.beams(actions_WN))
        cleaned_W = before_W - self.waste_WC.sum(1)
        eats_WN = self.apples_WC[worlds, bodies.cell_WN]
        self.apples_WC[worlds, bodies.cell_WN] = False
        self.clock += 1
        chance_W1 = self.growth * np.maximum(0.0, 1.0 - self.waste_share()[:, None] / self.depletion)
        draws_WC = self.rng.random(self.apples_WC.shape)
        empty_WC = self.orchard_C & ~self.apples_WC & ~bodies.taken_WC[:, :-1]
        self.apples_WC |= empty_WC & (draws_WC < chance_W1)
        self.waste_WC |= self.river_C & (draws_WC < self.pollution)  # no cell is both river and orchard
        reward_WN = eats_WN - self.cleaning_cost * cleans_WN
        neither_WN = ~eats_WN & ~cleans_WN
        events_WNK = np.stack([eats_WN, cleans_WN & ~eats_WN, neither_WN], axis=-1).astype(np.float64)
        left_W = self.waste_WC.sum(1) if self.clock == self.episode_length else np.zeros(len(reward_WN))
        facts_WM = np.stack([eats_WN.sum(1), cleaned_W, left_W], axis=1)
        return Step(self._features(), reward_WN, events_WNK, facts_WM)

    def _clean(self, firing_WN: np.ndarray) -> np.ndarray:
        """Take the waste out of every beam; bool (W, N): whose beam found some."""
        bodies = self.bodies
        found_WNL = bodies.things_ahead(self.waste_WC) & firing_WN[..., None]
        w, n, step = np.nonzero(found_WNL)
        self.waste_WC[w, bodies.rays_WNL()[w, n, step]] = False
        found: np.ndarray = found_WNL.any(-1)
        return found

    def waste_share(self) -> Array:
        """Share of river cells with waste, (W,)."""
        share: Array = self.waste_WC.sum(1) / self.river_C.sum()
        return share

    def _features(self) -> Array:
        bodies = self.bodies
        in_ray_WN = bodies.things_ahead(self.waste_WC).any(-1)
        share_WN = np.broadcast_to(self.waste_share()[:, None], in_ray_WN.shape)
        apples_WN = np.broadcast_to(self.apples_WC.sum(1, keepdims=True) / self.orchard_C.sum(), in_ray_WN.shape)
        own = np.stack([in_ray_WN, share_WN, apples_WN], axis=-1).astype(np.float64)
        near = [bodies.nearest(self.apples_WC), bodies.nearest(self.waste_WC)]
        return np.concatenate([*bodies.senses(), *near, own], axis=-1)
