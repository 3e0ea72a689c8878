"""What a world of agents is: many copies played at once, rewards, and events that a principal can pay for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class IncentiveSpace:
    """What a principal decides: one number for each name, all within the same bounds.

    Args:
        names: of the K numbers, as prompts call them.
        low: smallest value.
        high: largest value.
        contexts: situations that a principal is told before it decides; at least one.
    """

    names: tuple[str, ...]
    low: float
    high: float
    contexts: tuple[str, ...]

    @property
    def size(self) -> int:
        """K."""
        return len(self.names)

    def checked(self, values: Sequence[float], where: str) -> tuple[float, ...]:
        """The values, if a world can use them.

        Args:
            values: one a name.
            where: setting that holds them, for errors.

        Raises:
            ValueError: there are too few or too many, or one is out of bounds.
        """
        if len(values) != self.size or not all(self.low <= value <= self.high for value in values):
            raise ValueError(
                f"{where} is {list(values)}, expected {self.size} numbers from {self.low:g} to {self.high:g}: "
                f"{', '.join(self.names)}"
            )
        return tuple(float(value) for value in values)


@dataclass(frozen=True)
class Step:
    """What one step of W copies of a world brings.

    Args:
        features_WNF: what each of the N agents sees next.
        reward_WN: rewards of the world itself.
        events_WNK: how much of each incentive an agent gets; with incentives η it is paid ``events @ η``.
        facts_WM: figures of the step that a history tells, in the order of ``World.facts``.
    """

    features_WNF: Array
    reward_WN: Array
    events_WNK: Array
    facts_WM: Array


class World(ABC):
    """W copies of a game of N agents that act at the same time.

    An agent's reward is linear in the incentives η of the principal:

        r̃_n = r_n + Σ_k events_nk η_k

    The social welfare of an episode is Σ_t Σ_n r_n, what the world gives; what the principal pays is counted apart.
    """

    name: str
    space: IncentiveSpace
    facts: tuple[str, ...]
    """What ``Step.facts_WM`` counts; sums over an episode."""
    num_agents: int
    num_actions: int
    num_features: int
    episode_length: int

    @abstractmethod
    def reset(self, context_W: Ints, rng: np.random.Generator) -> Array:
        """Start W episodes.

        Args:
            context_W: index into ``space.contexts`` of each copy.
            rng: draws everything of these episodes.

        Returns:
            what each agent sees, (W, N, F).
        """

    @abstractmethod
    def step(self, actions_WN: Ints) -> Step:
        """Let all agents of all copies act.

        Args:
            actions_WN: below ``num_actions``.
        """

    @property
    @abstractmethod
    def rules(self) -> str:
        """The game in a few sentences, for a principal that reads."""


def one_hot(index: Ints, size: int) -> Array:
    """Rows of the identity, one more axis."""
    return np.eye(size)[index]
