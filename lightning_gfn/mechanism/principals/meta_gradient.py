"""A principal that follows the gradient of social welfare through the agents' own learning."""

from __future__ import annotations

import numpy as np

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.world import Array, World


class MetaGradient(Principal):
    """Adaptive incentives: Adam on a logit of each incentive and context, along ∂welfare/∂η.

        η = low + (high - low) σ(u_context)        ∂J/∂u = ∂J/∂η · (high - low) σ'(u)

    ∂J/∂η goes through one gradient step of each agent (``learning.incentive_slope``), averaged over the steps of a
    round. It needs to see the agents' weights, which no other principal does.

    Args:
        learning_rate: of Adam.
        start: share of the range at which every incentive starts, in (0, 1).

    Raises:
        ValueError: a number makes no sense.

    Source: Yang et al. 2022, arXiv:2112.10859 (AID), with the look-ahead of Yang et al. 2020, arXiv:2006.06051.
    """

    needs_gradient = True
    BETAS = (0.9, 0.999)

    def __init__(self, learning_rate: float = 0.2, start: float = 0.5) -> None:
        super().__init__()
        if not 0 < start < 1 or learning_rate <= 0:
            raise ValueError(
                f"principal.start={start} must lie in (0, 1) and principal.learning_rate={learning_rate} above 0"
            )
        self.learning_rate, self.start = learning_rate, start

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        super().setup(world, agents, rng)
        shape = (len(self.space.contexts), self.space.size)
        self.logits_CK = np.full(shape, np.log(self.start / (1 - self.start)))
        self.first_CK, self.second_CK, self.steps_C = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])

    def shares(self, context: int) -> Array:
        """σ(u)."""
        shares: Array = 1 / (1 + np.exp(-self.logits_CK[context]))
        return shares

    def propose(self, context: int) -> Proposal:
        values = self.space.low + (self.space.high - self.space.low) * self.shares(context)
        return Proposal(tuple(values.tolist()))

    def observe(self, context: int, proposal: Proposal, outcome: Outcome) -> None:
        """One step of Adam, upwards."""
        assert outcome.gradient_PK is not None
        shares = self.shares(context)
        slope = outcome.gradient_PK.mean(0) * (self.space.high - self.space.low) * shares * (1 - shares)
        self.steps_C[context] += 1
        moments = []
        for kept_CK, beta, value in zip((self.first_CK, self.second_CK), self.BETAS, (slope, slope**2), strict=True):
            kept_CK[context] = beta * kept_CK[context] + (1 - beta) * value
            moments.append(kept_CK[context] / (1 - beta ** self.steps_C[context]))
        self.logits_CK[context] += self.learning_rate * moments[0] / (np.sqrt(moments[1]) + 1e-8)
