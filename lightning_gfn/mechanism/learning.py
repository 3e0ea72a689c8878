"""One round: populations of fresh agents learn under given incentives, and their welfare is measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lightning_gfn.mechanism.agents import (
    AgentSettings,
    Episodes,
    centred,
    outer_sum,
    play,
    policy_gradient,
    returns_to_go,
    score,
)
from lightning_gfn.mechanism.world import Array, Ints, World


@dataclass(frozen=True)
class Outcome:
    """What came of incentives.

    Args:
        welfare_P: social welfare of an episode, mean over the test episodes of each population.
        paid_P: incentives paid in an episode.
        facts: the world's facts, mean over episodes and populations.
        gradient_PK: estimate of ∂welfare/∂incentives through the agents' learning; None if it was not asked for.
        environment_steps: steps that all agents took, those of training included.
    """

    welfare_P: Array
    paid_P: Array
    facts: dict[str, float]
    environment_steps: int
    gradient_PK: Array | None = field(default=None)

    @property
    def welfare(self) -> float:
        """Mean over populations."""
        return float(self.welfare_P.mean())


def run_round(
    world: World,
    settings: AgentSettings,
    incentives_PK: Array,
    context_P: Ints,
    rng: np.random.Generator,
    *,
    gradient: bool = False,
) -> Outcome:
    """Train P populations from scratch, each under its own incentives, then measure them.

    Args:
        world: the game.
        settings: of the agents.
        incentives_PK: of each population.
        context_P: of each population.
        rng: draws everything.
        gradient: also estimate how welfare depends on the incentives.
    """
    size_P = len(incentives_PK)
    weights = np.zeros((size_P, world.num_agents, world.num_features, world.num_actions))
    slope: Array | None = None
    gradients = np.zeros_like(incentives_PK)
    for _ in range(settings.updates):
        played = play(world, weights, context_P, settings.episodes, rng)
        if slope is not None:
            gradients += welfare_slope(played, slope)
        if gradient:
            slope = incentive_slope(played, settings)
        weights = weights + settings.learning_rate * agent_gradient(played, incentives_PK, settings)
    tested = play(world, weights, context_P, settings.test_episodes, rng)
    if slope is not None:
        gradients += welfare_slope(tested, slope)
    paid_PNBT = incentive_of(tested, incentives_PK)
    episodes = settings.updates * settings.episodes + settings.test_episodes
    return Outcome(
        welfare_P=tested.welfare_PB.mean(1),
        paid_P=paid_PNBT.sum((1, 3)).mean(1),
        facts=dict(zip(world.facts, tested.facts_PBM.mean((0, 1)).tolist(), strict=True)),
        environment_steps=size_P * episodes * world.episode_length,
        gradient_PK=gradients / max(1, settings.updates) if gradient else None,
    )


def incentive_of(played: Episodes, incentives_PK: Array) -> Array:
    """What each agent is paid at each step, (P, N, B, T)."""
    paid: Array = np.einsum("pnbtk,pk->pnbt", played.events_PNBTK, incentives_PK)
    return paid


def agent_gradient(played: Episodes, incentives_PK: Array, settings: AgentSettings) -> Array:
    """REINFORCE with the mean of the other episodes as baseline, on rewards and incentives together."""
    total = played.reward_PNBT + incentive_of(played, incentives_PK)
    advantage = centred(returns_to_go(total, settings.discount))
    return policy_gradient(played, advantage, settings.entropy_bonus)


def incentive_slope(played: Episodes, settings: AgentSettings) -> Array:
    """∂θ'/∂η of the gradient step that follows these episodes, (P, K, N, F, A).

    Incentives enter returns linearly, so the step's derivative is REINFORCE on the events themselves:

        ∂θ'/∂η_k = α/B Σ φ ⊗ (1[a] - π) (E_k - baseline)        E_k = Σ_{t' ≥ t} γ^(t' - t) events_k

    Args:
        played: the episodes of the step.
        settings: learning rate α and discount γ.

    Source: Yang et al. 2020, arXiv:2006.06051, equation 7 (one step of the recipients' learning is differentiated).
    """
    slopes = score(played)
    returns = centred(returns_to_go(played.events_PNBTK, settings.discount))
    parts = [outer_sum(played, slopes * returns[..., k, None]) for k in range(returns.shape[-1])]
    return settings.learning_rate * np.stack(parts, axis=1)


def welfare_slope(played: Episodes, slope_PKNFA: Array) -> Array:
    """∂J/∂η = Σ_n ⟨∇_θ' J, ∂θ'/∂η⟩ with the policy gradient of social welfare at the new weights, (P, K).

    Args:
        played: episodes with the weights θ' behind the step.
        slope_PKNFA: ∂θ'/∂η.
    """
    welfare = played.reward_PNBT.sum(1, keepdims=True)
    advantage = centred(returns_to_go(welfare, 1.0))
    gradient_PNFA = policy_gradient(played, np.broadcast_to(advantage, played.reward_PNBT.shape))
    result: Array = np.einsum("pnfa,pknfa->pk", gradient_PNFA, slope_PKNFA)
    return result
