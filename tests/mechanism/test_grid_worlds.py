"""The rules of the grid worlds, step by step, against written loops and stated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.clean_up import CleanUp
from lightning_gfn.mechanism.commons_harvest import CommonsHarvest
from lightning_gfn.mechanism.grid import BEAM, DIRECTIONS, STAY, Bodies, GridMap
from lightning_gfn.mechanism.learning import run_round

ROWS = ("..#.", "....", ".#..")
COPIES = 4000


def loop_neighbour(rows: tuple[str, ...], cell: int, direction: int) -> int:
    """The next cell, or the number of cells outside and in a wall."""
    width = len(rows[0])
    row, column = cell // width + DIRECTIONS[direction][0], cell % width + DIRECTIONS[direction][1]
    if not (0 <= row < len(rows) and 0 <= column < width) or rows[row][column] == "#":
        return len(rows) * width
    return row * width + column


def near(chance: float, count: int, total: int) -> bool:
    """A count within five standard deviations of what a probability says."""
    return abs(count - chance * total) <= 5 * np.sqrt(max(chance * (1 - chance), 1e-9) * total)


def test_neighbours_and_beams_stop_at_walls_and_edges() -> None:
    grid = GridMap(ROWS)
    rays = grid.rays_C4L(3)
    for cell in range(grid.num_cells):
        for direction in range(4):
            at = cell
            for step in range(3):
                at = loop_neighbour(ROWS, at, direction) if at < grid.num_cells else grid.num_cells
                assert rays[cell, direction, step] == at
    assert rays[4, 1].tolist() == [5, 6, 7] and rays[0, 1].tolist() == [1, 12, 12]


def test_things_ahead_lie_on_the_map() -> None:
    rng = np.random.default_rng(0)
    grid = GridMap(ROWS)
    bodies = Bodies(grid, np.arange(grid.num_cells), 6, 200, rng, 3)
    things = rng.random((200, grid.num_cells)) < 0.5
    things[:, -1] = True
    ahead = bodies.things_ahead(things)
    for w in range(200):
        for n in range(6):
            at = int(bodies.cell_WN[w, n])
            for step in range(3):
                at = loop_neighbour(ROWS, at, int(bodies.facing_WN[w, n])) if at < grid.num_cells else at
                assert ahead[w, n, step] == (at < grid.num_cells and things[w, at])


def test_moves_keep_agents_apart() -> None:
    rng = np.random.default_rng(0)
    bodies = Bodies(GridMap(ROWS), np.array([0, 1, 4, 5, 6]), 4, 300, rng, 2)
    bodies.frozen_WN[0] = 9
    moved = blocked = 0
    for _ in range(20):
        before, actions = bodies.cell_WN.copy(), rng.integers(6, size=(300, 4))
        bodies.move(actions)
        for w in range(300):
            after = bodies.cell_WN[w].tolist()
            assert len(set(after)) == 4
            assert sorted(np.flatnonzero(bodies.taken_WC[w, :-1])) == sorted(after)
            for n in range(4):
                moves = STAY < actions[w, n] < BEAM and w > 0
                target = loop_neighbour(ROWS, int(before[w, n]), int(actions[w, n]) - 1) if moves else before[w, n]
                if after[n] != before[w, n]:
                    assert after[n] == target and bodies.facing_WN[w, n] == actions[w, n] - 1
                    moved += 1
                elif moves and target < 12:  # an agent stood there before this one's turn, or had come there
                    assert target in before[w] or target in after
                    blocked += 1
    assert moved > 1000 and blocked > 1000


def test_the_first_of_two_takes_the_cell_each_as_often() -> None:
    bodies = Bodies(GridMap(("...",)), np.array([0, 2]), 2, COPIES, np.random.default_rng(1), 1)
    left_is_first = bodies.cell_WN[:, 0] == 0
    bodies.move(np.where(left_is_first[:, None], [[2, 4]], [[4, 2]]))
    winners = bodies.cell_WN == 1
    assert (winners.sum(1) == 1).all() and near(0.5, winners[:, 0].sum(), COPIES)


def test_the_nearest_thing_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(2)
    grid = GridMap(("......",) * 5)
    bodies = Bodies(grid, np.arange(30), 3, 50, rng, 1)
    things = rng.random((50, 30)) < 0.1
    things[0] = False
    found = bodies.nearest(things)
    assert not found[0].any()
    for w in range(1, 50):
        for n in range(3):
            row, column = divmod(int(bodies.cell_WN[w, n]), 6)
            gaps = [(cell // 6 - row, cell % 6 - column) for cell in np.flatnonzero(things[w])]
            if gaps:
                closest = min(abs(down) + abs(right) for down, right in gaps)
                assert found[w, n, 4] == pytest.approx(1 / (1 + closest))
                chosen = [[d < 0, r > 0, d > 0, r < 0] for d, r in gaps if abs(d) + abs(r) == closest]
                assert found[w, n, :4].astype(bool).tolist() in chosen


def harvest(**settings: Any) -> CommonsHarvest:
    world = CommonsHarvest(rows=("P.AAA", "..AAA", "P.AAA", ".....", "P...P"), num_agents=4, **settings)
    world.reset(np.zeros(COPIES, dtype=int), np.random.default_rng(3))
    return world


def test_apples_grow_by_the_number_of_apples_near() -> None:
    regrowth = (0.0, 0.1, 0.3, 0.6)
    world = harvest(regrowth=regrowth)
    world.apples_WC[:] = world.orchard_C & (np.random.default_rng(4).random(world.apples_WC.shape) < 0.3)
    before = world.apples_WC.copy()
    world.bodies.cell_WN[:] = [0, 10, 20, 24]
    world.bodies.taken_WC[:] = False
    world.bodies.taken_WC[:, [0, 10, 20, 24]] = True
    step = world.step(np.full((COPIES, 4), STAY))
    assert not step.reward_WN.any(), "nobody stands on an apple"
    grown, places = np.zeros(4), np.zeros(4)
    for w in range(COPIES):
        for cell in np.flatnonzero(world.orchard_C & ~before[w]):
            row, column = divmod(int(cell), 5)
            close = sum(
                before[w, 5 * r + c] for r in range(5) for c in range(5) if 0 < (r - row) ** 2 + (c - column) ** 2 <= 4
            )
            grown[min(close, 3)] += world.apples_WC[w, cell]
            places[min(close, 3)] += 1
    assert (places > 500).all() and all(near(*row) for row in zip(regrowth, grown, places, strict=True))
    assert (world.apples_WC >= before).all() and not world.apples_WC[:, ~world.orchard_C].any()


def test_an_agent_eats_what_it_steps_on_once() -> None:
    world = harvest(regrowth=(0.0,))
    world.bodies.cell_WN[:] = [1, 10, 20, 24]
    world.bodies.taken_WC[:] = False
    world.bodies.taken_WC[:, [1, 10, 20, 24]] = True
    east = np.tile([2, STAY, STAY, STAY], (COPIES, 1))
    first = world.step(east)
    assert (first.reward_WN == [1, 0, 0, 0]).all() and not world.apples_WC[:, 2].any()
    stay = np.full((COPIES, 4), STAY)
    assert not world.step(stay).reward_WN.any()
    assert (world.step(east).reward_WN == [1, 0, 0, 0]).all()
    assert (world.apples_WC.sum(1) == 7).all()


def test_a_beam_freezes_whoever_stands_in_it() -> None:
    world = harvest(freeze=2, regrowth=(0.0,))
    bodies = world.bodies
    bodies.cell_WN[:] = [5, 6, 20, 24]
    bodies.facing_WN[:] = [1, 0, 0, 0]
    bodies.taken_WC[:] = False
    bodies.taken_WC[:, [5, 6, 20, 24]] = True
    fire = world.step(np.tile([BEAM, STAY, STAY, STAY], (COPIES, 1)))
    assert (fire.facts_WM[:, 2] == 1).all() and (bodies.frozen_WN == [0, 2, 0, 0]).all()
    east = np.tile([STAY, 2, STAY, STAY], (COPIES, 1))
    for expected in (6, 6, 7):
        reward = world.step(east).reward_WN
        assert (bodies.cell_WN[:, 1] == expected).all() and (reward[:, 1] == (expected == 7)).all()


def test_taxes_follow_the_income_of_ten_steps() -> None:
    world, rng = CommonsHarvest(regrowth=(0.3,)), np.random.default_rng(5)
    world.reset(np.zeros(40, dtype=int), rng)
    eaten: list[np.ndarray] = []
    rates, seen = np.array([0.1, 0.4, 0.9]), set()
    for _ in range(world.episode_length):
        step = world.step(rng.integers(5, size=(40, 5)))
        eaten.append(step.reward_WN)
        paid = step.events_WNK @ rates
        income = np.sum(eaten[-10:], axis=0)
        for w in range(40):
            bracket = [0 if x < 3 else 1 if x < 5 else 2 for x in income[w]]
            seen |= set(bracket)
            taken = [4 * rates[b] * r for b, r in zip(bracket, step.reward_WN[w], strict=True)]
            expected = [sum(taken) / 5 - own for own in taken]
            assert paid[w].tolist() == pytest.approx(expected)
    assert seen == {0, 1, 2}


def clean_up(**settings: Any) -> CleanUp:
    world = CleanUp(rows=("RRRR", "RRRR", "P..P", "AAAA"), num_agents=2, **settings)
    world.reset(np.zeros(COPIES, dtype=int), np.random.default_rng(6))
    world.bodies.cell_WN[:] = [8, 11]
    world.bodies.facing_WN[:] = 0
    world.bodies.taken_WC[:] = False
    world.bodies.taken_WC[:, [8, 11]] = True
    return world


def test_a_beam_cleans_the_cells_ahead_and_costs_once() -> None:
    world = clean_up(pollution=1e-12, cleaning_cost=0.25)
    step = world.step(np.tile([BEAM, STAY], (COPIES, 1)))
    assert (step.reward_WN == [-0.25, 0.0]).all() and (step.facts_WM[:, 1] == 2).all()
    assert (world.waste_WC[:, :8] == [False, True, True, True] * 2).all()
    assert (step.events_WNK == [[0, 1, 0], [0, 0, 1]]).all()
    again = world.step(np.tile([BEAM, STAY], (COPIES, 1)))
    assert not again.reward_WN.any() and (again.events_WNK == [[0, 0, 1]] * 2).all(), "nothing was left to clean"


@pytest.mark.parametrize("wasted", [0, 2, 4, 8])
def test_apples_grow_while_the_river_is_clean(wasted: int) -> None:
    world = clean_up(pollution=1e-12, growth=0.2, depletion=0.5)
    world.waste_WC[:, :8] = np.arange(8) < wasted
    world.step(np.full((COPIES, 2), STAY))
    chance = 0.2 * max(0.0, 1 - (wasted / 8) / 0.5)
    assert near(chance, int(world.apples_WC[:, 12:].sum()), COPIES * 4) and not world.apples_WC[:, :12].any()


def test_waste_comes_back() -> None:
    world = clean_up(pollution=0.1)
    world.waste_WC[:] = False
    world.step(np.full((COPIES, 2), STAY))
    assert near(0.1, int(world.waste_WC[:, :8].sum()), COPIES * 8) and not world.waste_WC[:, 8:].any()


def test_eating_is_paid_as_eating_whatever_else_is_done() -> None:
    world = clean_up(pollution=1e-12)
    world.apples_WC[:, 12] = True
    step = world.step(np.tile([3, STAY], (COPIES, 1)))
    assert (step.reward_WN == [1.0, 0.0]).all() and (step.events_WNK == [[1, 0, 0], [0, 0, 1]]).all()
    assert not world.apples_WC[:, 12].any()


def test_paying_for_cleaning_makes_the_river_clean() -> None:
    settings = AgentSettings(updates=20, episodes=12, learning_rate=0.1, discount=0.95)
    incentives = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).repeat(3, axis=0)
    outcome = run_round(CleanUp(), settings, incentives, np.zeros(6, dtype=int), np.random.default_rng(0))
    assert outcome.welfare_P[:3].max() < 3 < 12 < outcome.welfare_P[3:].min()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CommonsHarvest(num_agents=9), "num_agents is 9"),
        (lambda: CommonsHarvest(regrowth=(0.2, 0.1)), "regrowth"),
        (lambda: CommonsHarvest(rows=("PA", "P")), "rows"),
        (lambda: CleanUp(pollution=0.0), "pollution"),
        (lambda: CleanUp(rows=("PPPPP",)), r"river \(R\)"),
    ],
)
def test_worlds_that_make_no_sense_are_refused(make: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
