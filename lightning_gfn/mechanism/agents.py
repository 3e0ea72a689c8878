"""Agents that learn by REINFORCE: a softmax of a linear function of what each of them sees, P populations at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_gfn.mechanism.world import Array, Ints, Step, World


@dataclass(frozen=True)
class AgentSettings:
    """How agents learn; each population starts anew in every round.

    Args:
        updates: gradient steps in a round.
        episodes: episodes of each population for one gradient step, at least 2 (each is the others' baseline).
        learning_rate: of the plain gradient step.
        discount: of later rewards.
        entropy_bonus: weight of the entropy of the policy.
        test_episodes: episodes of each trained population over which a round's welfare is measured.

    Raises:
        ValueError: a number makes no sense; names it.
    """

    updates: int = 60
    episodes: int = 16
    learning_rate: float = 0.1
    discount: float = 1.0
    entropy_bonus: float = 0.0
    test_episodes: int = 16

    def __post_init__(self) -> None:
        for name, least in (("updates", 0), ("episodes", 2), ("test_episodes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"agents.{name} is {getattr(self, name)}, expected at least {least}")
        if self.learning_rate <= 0 or not 0 < self.discount <= 1 or self.entropy_bonus < 0:
            raise ValueError(
                f"agents.learning_rate={self.learning_rate} must be above 0, agents.discount={self.discount} in (0, 1] "
                f"and agents.entropy_bonus={self.entropy_bonus} at least 0"
            )


@dataclass(frozen=True)
class Episodes:
    """Played episodes, T steps of B episodes of P populations of N agents.

    Args:
        features_PNBTF: what agents saw.
        probs_PNBTA: their policies there.
        actions_PNBT: what they did.
        reward_PNBT: rewards of the world.
        events_PNBTK: events that are paid for.
        facts_PBM: sums of the world's facts over each episode.
    """

    features_PNBTF: Array
    probs_PNBTA: Array
    actions_PNBT: Ints
    reward_PNBT: Array
    events_PNBTK: Array
    facts_PBM: Array

    @property
    def welfare_PB(self) -> Array:
        """Social welfare of each episode: Σ_t Σ_n r_n."""
        total: Array = self.reward_PNBT.sum((1, 3))
        return total


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    probs: Array = weights / weights.sum(-1, keepdims=True)
    return probs


def play(world: World, weights_PNFA: Array, context_P: Ints, episodes: int, rng: np.random.Generator) -> Episodes:
    """Let populations play episodes.

    Args:
        world: the game.
        weights_PNFA: of each agent's policy.
        context_P: context of each population.
        episodes: B of each population.
        rng: draws actions and the world's chances.
    """
    size_P = len(weights_PNFA)
    seen = by_agent(world.reset(context_P.repeat(episodes), rng), size_P)
    columns: list[tuple[Array, Array, Ints]] = []
    steps: list[Step] = []
    for _ in range(world.episode_length):
        probs_PNBA = softmax(seen @ weights_PNFA)
        uniform = rng.random((*probs_PNBA.shape[:3], 1))
        actions_PNB = np.minimum((probs_PNBA.cumsum(-1) < uniform).sum(-1), world.num_actions - 1)
        columns.append((seen, probs_PNBA, actions_PNB))
        steps.append(world.step(actions_PNB.transpose(0, 2, 1).reshape(-1, world.num_agents)))
        seen = by_agent(steps[-1].features_WNF, size_P)
    features, probs, actions = (np.stack(column, axis=3) for column in zip(*columns, strict=True))
    rewards = np.stack([by_agent(step.reward_WN, size_P) for step in steps], axis=3)
    events = np.stack([by_agent(step.events_WNK, size_P) for step in steps], axis=3)
    facts_WM = np.sum([step.facts_WM for step in steps], axis=0)
    return Episodes(features, probs, actions, rewards, events, facts_WM.reshape(size_P, episodes, -1))


def by_agent(values_WN: Array, populations: int) -> Array:
    """(W, N, …) as (P, N, B, …)."""
    return values_WN.reshape(populations, -1, *values_WN.shape[1:]).swapaxes(1, 2)


def returns_to_go(values: Array, discount: float) -> Array:
    """Σ_{t' ≥ t} γ^(t' - t) v_t' along axis 3."""
    result = values.astype(np.float64)
    for t in range(values.shape[3] - 2, -1, -1):
        result[:, :, :, t] += discount * result[:, :, :, t + 1]
    return result


def centred(values: Array) -> Array:
    """Values less the mean of the other episodes of the population, along axis 2; a baseline without bias."""
    count = values.shape[2]
    result: Array = (values - values.mean(2, keepdims=True)) * (count / (count - 1))
    return result


def policy_gradient(played: Episodes, advantage_PNBT: Array, entropy_bonus: float = 0.0) -> Array:
    """The REINFORCE gradient of each agent's weights, (P, N, F, A).

        ∇ = 1/B Σ_b Σ_t φ_bt ⊗ [A_bt (1[a_bt] - π_bt) + β ∇_logits H(π_bt)]

    Args:
        played: B episodes.
        advantage_PNBT: A.
        entropy_bonus: β.

    Source: Williams 1992, "Simple statistical gradient-following algorithms".
    """
    return outer_sum(played, score(played) * advantage_PNBT[..., None] + entropy_bonus * entropy_slope(played))


def score(played: Episodes) -> Array:
    """∇_logits log π(a), 1[a] - π."""
    result: Array = np.eye(played.probs_PNBTA.shape[-1])[played.actions_PNBT] - played.probs_PNBTA
    return result


def entropy_slope(played: Episodes) -> Array:
    """∇_logits H(π) = -π (log π + H)."""
    log_probs = np.log(np.maximum(played.probs_PNBTA, 1e-300))
    entropy = -(played.probs_PNBTA * log_probs).sum(-1, keepdims=True)
    result: Array = -played.probs_PNBTA * (log_probs + entropy)
    return result


def outer_sum(played: Episodes, slopes_PNBTA: Array) -> Array:
    """Σ φ ⊗ slope over steps, mean over episodes, (P, N, F, A)."""
    size_P, size_N, size_B = slopes_PNBTA.shape[:3]
    features = played.features_PNBTF.reshape(size_P, size_N, -1, played.features_PNBTF.shape[-1])
    result: Array = features.swapaxes(2, 3) @ slopes_PNBTA.reshape(size_P, size_N, -1, slopes_PNBTA.shape[-1]) / size_B
    return result
