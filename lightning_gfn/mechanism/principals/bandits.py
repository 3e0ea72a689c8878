"""Contextual bandits whose arms are all combinations of a few values of each incentive; each context for itself."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product

import numpy as np

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.principals.base import Principal, Proposal
from lightning_gfn.mechanism.world import Array, World


class Bandit(Principal):
    """Keeps counts and mean welfare of every arm in every context; subclasses choose.

    Args:
        levels: values of each incentive, evenly spaced between the bounds: levels^K arms.

    Raises:
        ValueError: there is but one value.
    """

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"principal.levels is {levels}, expected at least 2")
        self.levels = levels

    def setup(self, world: World, agents: AgentSettings, rng: np.random.Generator) -> None:
        super().setup(world, agents, rng)
        grid = np.linspace(self.space.low, self.space.high, self.levels).tolist()
        self.arms = list(product(grid, repeat=self.space.size))
        shape = (len(self.space.contexts), len(self.arms))
        self.pulls_CA, self.means_CA, self.squares_CA = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.order_CA = np.stack([rng.permutation(shape[1]) for _ in range(shape[0])])

    @abstractmethod
    def choose(self, context: int) -> int:
        """The arm to pull."""

    def propose(self, context: int) -> Proposal:
        return Proposal(self.arms[self.choose(context)])

    def observe(self, context: int, proposal: Proposal, outcome: Outcome) -> None:
        self.learn(context, self.arms.index(proposal.incentives), outcome.welfare)

    def learn(self, context: int, arm: int, welfare: float) -> None:
        """Running mean, and sum of squared deviations from it (Welford)."""
        self.pulls_CA[context, arm] += 1
        gap = welfare - self.means_CA[context, arm]
        self.means_CA[context, arm] += gap / self.pulls_CA[context, arm]
        self.squares_CA[context, arm] += gap * (welfare - self.means_CA[context, arm])

    def recommend(self, context: int) -> Proposal:
        """The tried arm with the highest mean; a random one before the first round."""
        tried = np.where(self.pulls_CA[context] > 0, self.means_CA[context], -np.inf)
        best = int(tried.argmax()) if np.isfinite(tried).any() else int(self.order_CA[context, 0])
        return Proposal(self.arms[best])


class EpsilonGreedy(Bandit):
    """The best mean so far, or with probability ε any arm; arms never tried count 0.

    Args:
        epsilon: ε.
        levels: values of each incentive.

    Raises:
        ValueError: ε is no probability.

    Source: Sutton and Barto 2018, Reinforcement Learning, section 2.2.
    """

    def __init__(self, epsilon: float = 0.1, levels: int = 3) -> None:
        super().__init__(levels)
        if not 0 <= epsilon <= 1:
            raise ValueError(f"principal.epsilon is {epsilon}, expected a probability")
        self.epsilon = epsilon

    def choose(self, context: int) -> int:
        if self.rng.random() < self.epsilon or not self.pulls_CA[context].any():
            return int(self.rng.integers(len(self.arms)))
        return int(self.means_CA[context].argmax())


class UCB(Bandit):
    """Every arm once, in random order, then the highest upper confidence bound.

        mean + c √(ln t / n)          t rounds and n pulls in this context

    Args:
        coefficient: c, in units of welfare.
        levels: values of each incentive.

    Source: Auer et al. 2002, "Finite-time analysis of the multiarmed bandit problem", UCB1.
    """

    def __init__(self, coefficient: float = 20.0, levels: int = 3) -> None:
        super().__init__(levels)
        self.coefficient = coefficient

    def choose(self, context: int) -> int:
        pulls_A = self.pulls_CA[context]
        untried = self.order_CA[context][pulls_A[self.order_CA[context]] == 0]
        if len(untried):
            return int(untried[0])
        bonus_A = self.coefficient * np.sqrt(np.log(pulls_A.sum()) / pulls_A)
        return int((self.means_CA[context] + bonus_A).argmax())


class ThompsonSampling(Bandit):
    """The arm whose mean is highest in a draw from the posterior: normal welfare of unknown mean and variance.

        σ² ~ InvGamma(a + n/2, b_n),    μ ~ N(m_n, σ²/(κ + n)),    m_n = (κ m + n x̄)/(κ + n)
        b_n = b + S/2 + κ n (x̄ - m)² / 2(κ + n)          S = Σ (x - x̄)²

    Args:
        prior_mean: m, welfare.
        prior_count: κ, pulls that the prior mean is worth.
        prior_shape: a.
        prior_scale: b, welfare squared.
        levels: values of each incentive.

    Source: Gelman et al. 2013, Bayesian Data Analysis, section 3.3.
    """

    def __init__(
        self,
        prior_mean: float = 0.0,
        prior_count: float = 0.05,
        prior_shape: float = 1.0,
        prior_scale: float = 25.0,
        levels: int = 3,
    ) -> None:
        super().__init__(levels)
        for name, value in (("count", prior_count), ("shape", prior_shape), ("scale", prior_scale)):
            if value <= 0:
                raise ValueError(f"principal.prior_{name} is {value}, expected a number above 0")
        self.prior = (prior_mean, prior_count, prior_shape, prior_scale)

    def posterior(self, context: int) -> tuple[Array, Array, Array, Array]:
        """m_n, κ + n, a + n/2 and b_n of each arm."""
        mean, count, shape, scale = self.prior
        pulls, means = self.pulls_CA[context], self.means_CA[context]
        total = count + pulls
        spread = scale + self.squares_CA[context] / 2 + count * pulls * (means - mean) ** 2 / (2 * total)
        return (count * mean + pulls * means) / total, total, shape + pulls / 2, spread

    def choose(self, context: int) -> int:
        centre, total, shape, spread = self.posterior(context)
        variance = spread / self.rng.gamma(shape)
        return int(self.rng.normal(centre, np.sqrt(variance / total)).argmax())
