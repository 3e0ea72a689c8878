"""What a principal is: it proposes incentives and is told what came of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

import numpy as np

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.world import World


@dataclass(frozen=True)
class Proposal:
    """What a principal decides.

    Args:
        incentives: one number for each name of the world's incentive space.
        answers: texts that a language model wrote before, unusable ones first; empty for other principals.
        failures: why each unusable answer could not be used.
    """

    incentives: tuple[float, ...]
    answers: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


class Principal(ABC):
    """Decides on incentives, round after round."""

    needs_gradient: bool = False
    """True if ``Outcome.gradient_PK`` is to be estimated."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """What it cost and what failed: ``calls``, ``generated_tokens``, ``unusable``, …"""

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        """Learn about the world before the first round.

        Args:
            world: whose incentives are set.
            agents: how its agents learn.
            rng: the principal's own random numbers.
        """
        self.world, self.agents, self.space, self.rng = world, agents, world.space, rng

    @abstractmethod
    def propose(self, context: int) -> Proposal:
        """The incentives of the next round.

        Args:
            context: index of what the principal is told.
        """

    def observe(self, context: int, proposal: Proposal, outcome: Outcome) -> None:  # noqa: B027
        """Learn what came of a proposal; nothing by default."""

    def recommend(self, context: int) -> Proposal:
        """What the principal would decide if nothing more were to be learnt; its next proposal by default."""
        return self.propose(context)
