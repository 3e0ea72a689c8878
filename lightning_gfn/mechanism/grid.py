"""What grid worlds share: a map, moves that never put two agents in one cell, straight beams, and what is near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_gfn.mechanism.world import Array, Ints, World, one_hot

Bools = NDArray[np.bool_]
STAY, BEAM = 0, 5
NUM_ACTIONS = 6
"""Stay; north, east, south, west, which also turn; beam."""
DIRECTIONS = ((-1, 0), (0, 1), (1, 0), (0, -1))
WALL = "#"


@dataclass(frozen=True)
class GridMap:
    """A rectangle of cells, numbered row by row; one number more stands for everything outside.

    Args:
        rows: letters of the cells, ``#`` for a wall.
    """

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.rows or len({len(row) for row in self.rows}) != 1:
            raise ValueError(f"world.rows must be lines of one length, got {list(self.rows)}")

    @property
    def width(self) -> int:
        """Cells in a row."""
        return len(self.rows[0])

    @property
    def num_cells(self) -> int:
        """C."""
        return len(self.rows) * self.width

    def cells(self, letters: str) -> Bools:
        """bool (C,): cells with one of the letters."""
        return np.array([letter in letters for row in self.rows for letter in row])

    @cached_property
    def neighbour_C4(self) -> Ints:
        """The next cell in each direction; C outside the map and behind a wall."""
        wall = self.cells(WALL)
        found = np.full((self.num_cells + 1, 4), self.num_cells)
        for cell in range(self.num_cells):
            for direction, (down, right) in enumerate(DIRECTIONS):
                row, column = cell // self.width + down, cell % self.width + right
                inside = 0 <= row < len(self.rows) and 0 <= column < self.width
                if inside and not wall[row * self.width + column]:
                    found[cell, direction] = row * self.width + column
        return found

    def rays_C4L(self, length: int) -> Ints:
        """The cells that a beam from each cell in each direction reaches; C where a wall has stopped it."""
        steps = [self.neighbour_C4]
        for _ in range(length - 1):
            steps.append(np.take_along_axis(self.neighbour_C4, steps[-1], axis=0))
        return np.stack(steps, axis=-1)

    @cached_property
    def offsets_CC2(self) -> Ints:
        """Rows down and columns right from a cell to another."""
        places = np.stack(np.divmod(np.arange(self.num_cells), self.width), axis=-1)
        return places[None, :] - places[:, None]

    @cached_property
    def distance_CC(self) -> Array:
        """Moves between cells if nothing stood between them."""
        distance: Array = np.abs(self.offsets_CC2).sum(-1).astype(np.float64)
        return distance

    def within_CC(self, radius: float) -> Array:
        """1 for other cells within a Euclidean radius, else 0."""
        squared = (self.offsets_CC2**2).sum(-1)
        near: Array = ((squared <= radius**2) & (squared > 0)).astype(np.float64)
        return near


class Bodies:
    """Where W × N agents stand, where they look, and who is frozen.

    Args:
        grid: the map.
        spawns: cells in which episodes begin.
        num_agents: N.
        copies: W.
        rng: draws the first cells, and who moves first.
        beam_length: cells that a beam reaches.
    """

    NUM_SENSES = 11

    def __init__(
        self, grid: GridMap, spawns: Ints, num_agents: int, copies: int, rng: np.random.Generator, beam_length: int
    ) -> None:
        self.grid, self.rng = grid, rng
        order = rng.random((copies, len(spawns))).argsort(1)[:, :num_agents]
        self.cell_WN = spawns[order]
        self.facing_WN = rng.integers(4, size=(copies, num_agents))
        self.frozen_WN = np.zeros((copies, num_agents), dtype=np.int64)
        self.worlds_W = np.arange(copies)
        self.taken_WC = np.zeros((copies, grid.num_cells + 1), dtype=bool)
        self.taken_WC[self.worlds_W[:, None], self.cell_WN] = True
        self.rays_C4L = grid.rays_C4L(beam_length)

    def move(self, actions_WN: Ints) -> None:
        """Turn and move whoever is not frozen, one after the other in a random order; nobody enters a taken cell.

        Args:
            actions_WN: below ``NUM_ACTIONS``.
        """
        moving_WN = (actions_WN > STAY) & (actions_WN < BEAM) & (self.frozen_WN == 0)
        self.facing_WN = np.where(moving_WN, actions_WN - 1, self.facing_WN)
        order_WN = self.rng.random(actions_WN.shape).argsort(1)
        target_WN = np.where(moving_WN, self.grid.neighbour_C4[self.cell_WN, self.facing_WN], self.grid.num_cells)
        self.taken_WC[:, -1] = True
        for n_W in order_WN.T:
            at_W, to_W = self.cell_WN[self.worlds_W, n_W], target_WN[self.worlds_W, n_W]
            free_W = ~self.taken_WC[self.worlds_W, to_W]
            new_W = np.where(free_W, to_W, at_W)
            self.taken_WC[self.worlds_W, at_W] = False
            self.taken_WC[self.worlds_W, new_W] = True
            self.cell_WN[self.worlds_W, n_W] = new_W

    def rays_WNL(self) -> Ints:
        """The cells in front of each agent, as far as its beam reaches."""
        return self.rays_C4L[self.cell_WN, self.facing_WN]

    def things_ahead(self, things_WC: Bools) -> Bools:
        """bool (W, N, L): which cells in front of each agent hold a thing; none outside the map."""
        rays_WNL = self.rays_WNL()
        found: Bools = things_WC[self.worlds_W[:, None, None], np.minimum(rays_WNL, self.grid.num_cells - 1)]
        return found & (rays_WNL < self.grid.num_cells)

    def beams(self, actions_WN: Ints) -> Bools:
        """bool (W, N): who fires."""
        return (actions_WN == BEAM) & (self.frozen_WN == 0)

    def hit(self, firing_WN: Bools) -> Bools:
        """bool (W, N): who stands in the beam of another."""
        in_ray_WNLN = self.rays_WNL()[..., None] == self.cell_WN[:, None, None, :]
        return (in_ray_WNLN.any(2) & firing_WN[:, :, None]).any(1)

    def thaw(self) -> None:
        """One step of frozen agents passes."""
        self.frozen_WN = np.maximum(self.frozen_WN - 1, 0)

    def senses(self) -> list[Array]:
        """Whether each next cell can be entered, an agent in the own beam, being frozen, the facing, and 1."""
        next_WN4 = self.grid.neighbour_C4[self.cell_WN]
        taken_WC = self.taken_WC.copy()
        taken_WC[:, -1] = True
        free_WN4 = ~taken_WC[self.worlds_W[:, None, None], next_WN4]
        in_ray_WN = (self.rays_WNL()[..., None] == self.cell_WN[:, None, None, :]).any((2, 3))
        return [
            free_WN4.astype(np.float64),
            one_hot(self.facing_WN, 4),
            np.stack([in_ray_WN, self.frozen_WN > 0, np.ones(in_ray_WN.shape)], axis=-1).astype(np.float64),
        ]

    def nearest(self, things_WC: Bools) -> Array:
        """Where the nearest thing is: north, east, south, west of an agent, each by 0 or 1, and 1 / (1 + distance).

        Args:
            things_WC: bool, cells with such a thing.

        Returns:
            (W, N, 5); zeros where there is none.
        """
        distance_WNC = np.where(things_WC[:, None], self.grid.distance_CC[self.cell_WN], np.inf)
        chosen_WN = distance_WNC.argmin(-1)
        there_WN = np.take_along_axis(distance_WNC, chosen_WN[..., None], -1)[..., 0]
        down_right_WN2 = self.grid.offsets_CC2[self.cell_WN, chosen_WN]
        known_WN = np.isfinite(there_WN)
        down_WN, right_WN = down_right_WN2[..., 0], down_right_WN2[..., 1]
        sides = [down_WN < 0, right_WN > 0, down_WN > 0, right_WN < 0]
        closeness = np.where(known_WN, 1.0 / (1.0 + np.where(known_WN, there_WN, 0.0)), 0.0)
        return np.stack([*(side & known_WN for side in sides), closeness], axis=-1).astype(np.float64)


def checked_map(rows: Sequence[str], spawn: str, num_agents: int) -> GridMap:
    """A map with room for all agents.

    Raises:
        ValueError: it has too few cells to begin in.
    """
    grid = GridMap(tuple(rows))
    if not 1 <= num_agents <= grid.cells(spawn).sum():
        raise ValueError(
            f"world.num_agents is {num_agents}, but world.rows has {grid.cells(spawn).sum()} cells {spawn!r} to "
            "begin in"
        )
    return grid


class GridWorld(World):
    """A world whose agents walk on a map, turn and fire beams of three cells.

    Args:
        rows: the map; ``P`` is where agents begin.
        num_agents: N.
        episode_length: steps of an episode.

    Raises:
        ValueError: the map has too few cells to begin in, or episodes have no step.
    """

    num_actions = NUM_ACTIONS
    beam_length = 3

    def __init__(self, rows: Sequence[str], num_agents: int, episode_length: int) -> None:
        self.grid = checked_map(rows, "P", num_agents)
        if episode_length < 1:
            raise ValueError(f"world.episode_length is {episode_length}, expected at least 1")
        self.num_agents, self.episode_length = num_agents, episode_length
        self.orchard_C = self.grid.cells("A")
        self.spawns = np.flatnonzero(self.grid.cells("P"))

    def begin(self, copies: int, rng: np.random.Generator) -> None:
        """Put the agents of W new episodes on the map.

        Args:
            copies: W.
            rng: draws everything of these episodes.
        """
        self.rng, self.clock = rng, 0
        self.bodies = Bodies(self.grid, self.spawns, self.num_agents, copies, rng, self.beam_length)
