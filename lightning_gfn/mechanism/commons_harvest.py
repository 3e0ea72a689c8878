"""Commons Harvest: apples grow back only where others still hang, and who takes the last one takes it from all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_gfn.mechanism.grid import Bodies, GridWorld
from lightning_gfn.mechanism.world import Array, IncentiveSpace, Ints, Step

ROWS = (
    "P..A.A..P",
    "..AAAAA..",
    "...A.A...",
    ".A.....A.",
    "AAA.P.AAA",
    ".A.....A.",
    "...A.A...",
    "..AAAAA..",
    "P..A.A..P",
)
WINDOW = 10
SCALE = 4.0


class CommonsHarvest(GridWorld):
    """N agents eat apples, worth 1 each; a principal taxes what they eat and gives the taxes to all alike.

    An empty apple cell without an agent grows an apple in a step with a probability that depends on the apples within
    a distance of 2: ``regrowth[0]`` for none, ``regrowth[1]`` for one, … and the last entry for more. The beam freezes
    agents in the three cells ahead for ``freeze`` steps. The rate of the tax depends on what the agent ate in the last
    10 steps, this one included (below 3, below 5, more); as in the released code it counts four times:

        r̃_n = r_n - 4 τ_b(n) r_n + mean over m of 4 τ_b(m) r_m

    Args:
        num_agents: N.
        episode_length: steps of an episode.
        rows: the map: ``A`` grows apples, ``P`` is where agents begin (as well), ``#`` is a wall.
        regrowth: probabilities, none decreasing.
        freeze: steps that a beam takes from whoever it hits.

    Raises:
        ValueError: the map or a number makes no sense.

    Source: Perolat et al. 2017, arXiv:1707.06600; Leibo et al. 2021, arXiv:2107.06857 (Melting Pot), smaller here;
    taxes: Gasztowtt et al. 2024, arXiv:2410.08345 and its released code.
    """

    name = "commons_harvest"

    def __init__(
        self,
        *,
        num_agents: int = 5,
        episode_length: int = 60,
        rows: Sequence[str] = ROWS,
        regrowth: Sequence[float] = (0.0, 0.01, 0.04, 0.12),
        freeze: int = 5,
    ) -> None:
        super().__init__(rows, num_agents, episode_length)
        if not regrowth or not all(0 <= p <= 1 for p in regrowth) or sorted(regrowth) != list(regrowth):
            raise ValueError(f"world.regrowth is {list(regrowth)}, expected probabilities, none smaller than the last")
        if freeze < 0:
            raise ValueError(f"world.freeze is {freeze}, expected at least 0")
        self.freeze, self.regrowth = freeze, np.array(regrowth)
        self.near_CC = self.grid.within_CC(2.0)
        self.space = IncentiveSpace(("low income", "middle income", "high income"), 0.0, 1.0, ("harvest",))
        self.facts = ("apples eaten", "apples left", "beams")
        self.num_features = Bodies.NUM_SENSES + 5 + 3

    @property
    def rules(self) -> str:
        return (
            f"{self.num_agents} agents eat apples, one point each. Apples grow back only near other apples; if too "
            "many are eaten, none grow back. You set three tax rates on eaten apples: for agents who ate little "
            "lately, for those between, and for those who ate much. Taxes are shared by all."
        )

    def reset(self, context_W: Ints, rng: np.random.Generator) -> Array:
        copies = len(context_W)
        self.begin(copies, rng)
        self.apples_WC = np.tile(self.orchard_C, (copies, 1))
        self.eaten_TWN = np.zeros((WINDOW, copies, self.num_agents))
        return self._features()

    def step(self, actions_WN: Ints) -> Step:
        bodies, worlds = self.bodies, self.bodies.worlds_W[:, None]
        bodies.move(actions_WN)
        awake_WN = bodies.frozen_WN == 0
        firing_WN = bodies.beams(actions_WN)
        hit_WN = bodies.hit(firing_WN)
        eats_WN = self.apples_WC[worlds, bodies.cell_WN] & awake_WN
        self.apples_WC[worlds, bodies.cell_WN] &= ~eats_WN
        bodies.thaw()
        bodies.frozen_WN = np.where(hit_WN, self.freeze, bodies.frozen_WN)
        reward_WN = eats_WN.astype(np.float64)
        self.eaten_TWN[self.clock % WINDOW] = reward_WN
        self.clock += 1
        self.apples_WC |= self._grown()
        left_W = self.apples_WC.sum(1) if self.clock == self.episode_length else np.zeros(len(reward_WN))
        facts_WM = np.stack([reward_WN.sum(1), left_W, firing_WN.sum(1)], axis=1)
        return Step(self._features(), reward_WN, self.taxes(reward_WN), facts_WM)

    def _grown(self) -> np.ndarray:
        """bool (W, C): where an apple grows now."""
        near_WC = (self.apples_WC @ self.near_CC).astype(np.int64)
        chance_WC = self.regrowth[np.minimum(near_WC, len(self.regrowth) - 1)]
        empty_WC = self.orchard_C & ~self.apples_WC & ~self.bodies.taken_WC[:, :-1]
        grown: np.ndarray = empty_WC & (self.rng.random(chance_WC.shape) < chance_WC)
        return grown

    def taxes(self, reward_WN: Array) -> Array:
        """What one unit of each rate takes from an agent (negative) and gives to it, (W, N, 3)."""
        income_WN = self.eaten_TWN.sum(0)
        bracket_WN = (income_WN >= 3).astype(np.int64) + (income_WN >= 5)
        taken_WNK = SCALE * reward_WN[..., None] * np.eye(3)[bracket_WN]
        taxes: Array = taken_WNK.mean(1, keepdims=True) - taken_WNK
        return taxes

    def _features(self) -> Array:
        bodies = self.bodies
        near_WN = np.take_along_axis(self.apples_WC @ self.near_CC, bodies.cell_WN, 1) / 12
        share_WN = np.broadcast_to(self.apples_WC.mean(1, keepdims=True) / self.orchard_C.mean(), near_WN.shape)
        income_WN = self.eaten_TWN.sum(0) / WINDOW
        own = np.stack([near_WN, share_WN, income_WN], axis=-1)
        return np.concatenate([*bodies.senses(), bodies.nearest(self.apples_WC), own], axis=-1)
