"""Stationary equilibria of the Escape Room by enumeration, and the incentives that make the best one the only one."""

from __future__ import annotations

from itertools import combinations_with_replacement, permutations, product

import numpy as np

from lightning_gfn.mechanism.escape_room import COST, DOOR_REWARD, EscapeRoom
from lightning_gfn.mechanism.world import Array, Ints


def place_counts(room: EscapeRoom) -> Ints:
    """Every way to spread the agents over the places, one row each: agents differ in nothing but their place."""
    spread = combinations_with_replacement(range(room.num_actions), room.num_agents)
    return np.array([np.bincount(places, minlength=room.num_actions) for places in spread], dtype=np.int64)


def stationary_rewards(room: EscapeRoom, counts_CK: Ints, lever: int) -> Array:
    """What the room gives an agent at each place in a step in which all stay where they are, (C, K).

    Args:
        room: the game.
        counts_CK: agents at each place.
        lever: the active one.
    """
    open_C1 = counts_CK[:, lever, None] >= room.min_at_lever
    when_open = np.full(room.num_actions, -COST)
    when_open[room.door] = DOOR_REWARD
    return np.where(open_C1, when_open, 0.0)


def stationary_welfare(room: EscapeRoom, lever: int) -> Array:
    """Welfare of one step of each row of ``place_counts`` in which all stay."""
    counts_CK = place_counts(room)
    welfare: Array = (counts_CK * stationary_rewards(room, counts_CK, lever)).sum(1)
    return welfare


def leaving_losses(room: EscapeRoom, lever: int) -> Array:
    """What the room takes from an agent that leaves place i for place j for good, (C, K, K).

        loss(c, i, j) = r_i(c) - r_j(c - 1_i + 1_j)          ∞ where nobody is at i, or i = j

    Args:
        room: the game.
        lever: the active one.
    """
    counts_CK = place_counts(room)
    own_CK = stationary_rewards(room, counts_CK, lever)
    losses_CKK = np.full((len(counts_CK), room.num_actions, room.num_actions), np.inf)
    for i, j in permutations(range(room.num_actions), 2):
        moved_CK = counts_CK.copy()
        moved_CK[:, i] -= 1
        moved_CK[:, j] += 1
        there_C = stationary_rewards(room, moved_CK, lever)[:, j]
        losses_CKK[:, i, j] = np.where(counts_CK[:, i] > 0, own_CK[:, i] - there_C, np.inf)
    return losses_CKK


def equilibrium_margins(losses_CKK: Array, incentives_K: Array) -> Array:
    """How much an agent loses at least by going elsewhere for good, for each row of ``place_counts``.

        margin(c) = min over i, j of loss(c, i, j) + η_i - η_j

    A profile is an equilibrium where the margin is not negative. The single cost of moving is left out: it is paid
    once, the difference at every step.

    Args:
        losses_CKK: of ``leaving_losses``.
        incentives_K: η.
    """
    margin_C: Array = (losses_CKK + (incentives_K[:, None] - incentives_K)).min((1, 2))
    return margin_C


def best_incentives(room: EscapeRoom, lever: int, *, levels: int = 6) -> tuple[float, ...]:
    """The incentives whose worst stationary equilibrium has the highest welfare; of equal ones the surest.

    Sure is the margin of the equilibrium with the highest welfare. Incentives without an equilibrium are left out.

    Args:
        room: the game.
        lever: the active one.
        levels: values of each incentive, evenly spaced between the bounds.
    """
    welfare_C = stationary_welfare(room, lever)
    losses_CKK = leaving_losses(room, lever)
    grid = np.linspace(room.space.low, room.space.high, levels)
    best: tuple[float, float] = (-np.inf, -np.inf)
    chosen = (room.space.low,) * room.space.size
    for values in product(grid, repeat=room.space.size):
        margin_C = equilibrium_margins(losses_CKK, np.array(values))
        stable_C = margin_C >= 0
        if stable_C.any():
            surest = margin_C[np.where(stable_C, welfare_C, -np.inf).argmax()]
            found = (float(welfare_C[stable_C].min()), float(surest))
            if found > best:
                best, chosen = found, tuple(float(value) for value in values)
    return chosen
