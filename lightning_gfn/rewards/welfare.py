"""Social welfare as a reward: agents learn under the incentives that a completion names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.learning import run_round
from lightning_gfn.mechanism.world import World
from lightning_gfn.prompts.incentives import UnusableAnswer, read_incentives
from lightning_gfn.rewards.terms import log_reward_of_term
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM, USABLE = "log_welfare", "usable"
CONTEXT = "context"


class SocialWelfare(Reward):
    """Welfare of an episode of agents that have learned under the incentives of a completion, over a temperature.

        log R(z) = welfare(incentives(z), context) / temperature        log R(z) = unusable, if z cannot be read

    The problem's context is its column ``context``. Agents learn with random numbers that context, incentives and seed
    decide: equal answers have equal rewards, in any batch and after any interruption.

    Args:
        world: the game.
        agents: how they learn; the defaults of ``AgentSettings`` if None.
        temperature: welfare that is worth one nat.
        unusable: log reward of answers that cannot be read, below that of bad incentives.
        populations: trained side by side, whose mean counts.
        seed: of the agents.

    Raises:
        ValueError: a number makes no sense.
    """

    is_constant = True
    is_log_weight = True
    provides = frozenset({"log_reward_B"})

    def __init__(
        self,
        world: World,
        agents: AgentSettings | None = None,
        temperature: float = 10.0,
        unusable: float = -10.0,
        populations: int = 1,
        seed: int = 0,
    ) -> None:
        if temperature <= 0 or not math.isfinite(unusable) or populations < 1:
            raise ValueError(
                f"reward.temperature={temperature} must be above 0, reward.unusable={unusable} finite and "
                f"reward.populations={populations} at least 1"
            )
        self.world, self.agents = world, agents if agents is not None else AgentSettings()
        self.temperature, self.unusable, self.populations, self.seed = temperature, unusable, populations, seed
        self.known: dict[tuple[int, tuple[float, ...]], float] = {}

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Read the completions, and let agents learn under those that can be read.

        Args:
            rollouts: B trajectories.
            policy: is not asked.
            prefixes: must be False.

        Returns:
            ``log_welfare`` (nats) and ``usable`` (1 or 0), (B,), and None.

        Raises:
            ValueError: prefix values are asked for, or a problem has no context of the world.
        """
        if prefixes:
            raise ValueError("SocialWelfare gives no prefix values: use an objective on whole answers (TB, VarGrad)")
        space = self.world.space
        values, usable = [], []
        for b, text in enumerate(rollouts.completions):
            context = self.context_of(rollouts.problem_of(b))
            try:
                incentives = read_incentives(text, space.names, (space.low, space.high))
            except UnusableAnswer:
                values.append(self.unusable)
                usable.append(0.0)
                continue
            values.append(self.welfare(context, incentives) / self.temperature)
            usable.append(1.0)
        device = rollouts.action_mask_NT.device
        found = {TERM: values, USABLE: usable}
        return {name: torch.tensor(column, dtype=torch.float32, device=device) for name, column in found.items()}, None

    def welfare(self, context: int, incentives: tuple[float, ...]) -> float:
        """Mean welfare of the populations; the same whenever it is asked for."""
        key = context, incentives
        if key not in self.known:
            digest = hashlib.blake2b(repr((self.seed, *key)).encode(), digest_size=8).digest()
            rng = np.random.default_rng(int.from_bytes(digest, "little"))
            values_PK = np.tile(np.array(incentives), (self.populations, 1))
            outcome = run_round(self.world, self.agents, values_PK, np.full(self.populations, context), rng)
            self.known[key] = outcome.welfare
        return self.known[key]

    def context_of(self, problem: Problem) -> int:
        """Index of the problem's context.

        Raises:
            ValueError: it has none of this world's.
        """
        contexts = self.world.space.contexts
        name = problem.metadata.get(CONTEXT)
        if name not in contexts:
            raise ValueError(
                f"problem {problem.id!r} has context {name!r}, the world {self.world.name} knows "
                f"{', '.join(contexts)}: use datamodules.inference.incentive_rounds on rounds of this world"
            )
        return contexts.index(name)

    def try_on(self, problem: Problem) -> None:
        """Refuse data of another world before a model is loaded."""
        self.context_of(problem)

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The term itself (weight 1)."""
        return log_reward_of_term(terms, TERM, rollouts)
