"""REINFORCE and the gradient through it against enumeration of every sequence of actions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from lightning_gfn.mechanism.agents import (
    AgentSettings,
    Episodes,
    centred,
    entropy_slope,
    outer_sum,
    play,
    policy_gradient,
    returns_to_go,
    softmax,
)
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.learning import agent_gradient, incentive_slope, run_round, welfare_slope

ROOM = EscapeRoom(num_agents=2, min_at_lever=1, num_levers=1, episode_length=2)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(1, 2, ROOM.num_features, ROOM.num_actions))
SEQUENCES = np.array(list(product(range(3), repeat=4))).reshape(-1, 2, 2)  # 81 sequences, steps, agents


def enumerated() -> tuple[Episodes, np.ndarray]:
    """Every sequence of joint actions as an episode, and its probability."""
    seen = ROOM.reset(np.zeros(len(SEQUENCES), dtype=int), RNG)
    columns = []
    for t in range(2):
        probs = softmax(np.einsum("wnf,nfa->wna", seen, WEIGHTS[0]))
        step = ROOM.step(SEQUENCES[:, t])
        columns.append((seen, probs, SEQUENCES[:, t], step.reward_WN, step.events_WNK))
        seen = step.features_WNF
    parts = [np.stack([column[i] for column in columns], axis=2).swapaxes(0, 1)[None] for i in range(5)]
    played = Episodes(*parts, facts_PBM=np.zeros((1, len(SEQUENCES), 1)))
    chosen = np.take_along_axis(played.probs_PNBTA, played.actions_PNBT[..., None], -1)[..., 0]
    return played, chosen[0].prod((0, 2))


def expected_return(weights: torch.Tensor, rewards_BTN: np.ndarray, agent: int | None) -> torch.Tensor:
    """Σ p(sequence) · return, with gradient; of one agent or of all together."""
    played, _ = enumerated()
    features = torch.tensor(played.features_PNBTF[0])
    log_probs = torch.einsum("nbtf,nfa->nbta", features, weights).log_softmax(-1)
    actions = torch.tensor(played.actions_PNBT[0])
    probability = log_probs.gather(-1, actions[..., None]).sum((0, 2, 3)).exp()
    total = rewards_BTN.sum(1)
    return (probability * torch.tensor(total.sum(1) if agent is None else total[:, agent])).sum()


def exact_gradient(rewards_BTN: np.ndarray, agent: int | None) -> np.ndarray:
    weights = torch.tensor(WEIGHTS[0], requires_grad=True)
    (found,) = torch.autograd.grad(expected_return(weights, rewards_BTN, agent), weights)
    return found.numpy()


def test_all_sequences_have_probability_one() -> None:
    assert enumerated()[1].sum() == pytest.approx(1.0)


def test_reinforce_is_the_gradient_of_the_expected_reward() -> None:
    played, probability = enumerated()
    incentives = np.array([[2.0, 0.5, 0.0]])
    paid = played.reward_PNBT + np.einsum("pnbtk,pk->pnbt", played.events_PNBTK, incentives)
    weighted = returns_to_go(paid, 1.0) * (probability * len(probability))[None, None, :, None]
    found = policy_gradient(played, weighted)[0]
    for agent in range(2):
        exact = exact_gradient(paid[0].transpose(1, 2, 0), agent)
        np.testing.assert_allclose(found[agent], exact[agent], atol=1e-12)
    assert np.abs(found).max() > 0.1


def test_the_baseline_of_other_episodes_is_a_written_loop_and_without_bias() -> None:
    values = RNG.normal(size=(2, 3, 5, 4))
    expected = np.empty_like(values)
    for b in range(5):
        others = [other for other in range(5) if other != b]
        expected[:, :, b] = values[:, :, b] - values[:, :, others].mean(2)
    np.testing.assert_allclose(centred(values), expected, atol=1e-12)


def test_returns_are_a_written_loop() -> None:
    values = RNG.normal(size=(1, 2, 3, 4))
    found = returns_to_go(values, 0.9)
    for t in range(4):
        expected = sum(0.9 ** (later - t) * values[..., later] for later in range(t, 4))
        np.testing.assert_allclose(found[..., t], expected, atol=1e-12)


def test_the_slope_of_entropy_is_autograd() -> None:
    played, _ = enumerated()
    logits = torch.tensor(np.log(played.probs_PNBTA), requires_grad=True)
    log_probs = logits.log_softmax(-1)
    (found,) = torch.autograd.grad(-(log_probs.exp() * log_probs).sum(), logits)
    np.testing.assert_allclose(entropy_slope(played), found.numpy(), atol=1e-12)


def test_the_slope_of_incentives_is_that_of_the_gradient_step() -> None:
    settings = AgentSettings(learning_rate=0.3, discount=0.8)
    room = EscapeRoom()
    played = play(room, np.zeros((2, 5, 7, 5)), np.array([0, 1]), 6, np.random.default_rng(1))
    slope = incentive_slope(played, settings)
    incentives = np.full((2, 5), 1.5)
    for k in range(5):
        up, down = incentives.copy(), incentives.copy()
        up[:, k] += 0.5
        down[:, k] -= 0.5
        step = settings.learning_rate * (agent_gradient(played, up, settings) - agent_gradient(played, down, settings))
        np.testing.assert_allclose(slope[:, k], step, atol=1e-12)
    assert np.abs(slope).max() > 0


def test_welfare_follows_the_incentives_by_the_chain_rule() -> None:
    room = EscapeRoom()
    played = play(room, np.zeros((1, 5, 7, 5)), np.array([0]), 8, np.random.default_rng(2))
    slope = np.random.default_rng(3).normal(size=(1, 4, 5, 7, 5))
    found = welfare_slope(played, slope)
    gradient = np.zeros((5, 7, 5))
    total = played.reward_PNBT[0].sum(0)
    for n, b, t in product(range(5), range(8), range(5)):
        later = total[:, t:].sum(1)
        advantage = later[b] - np.delete(later, b).mean()
        slopes = np.eye(5)[played.actions_PNBT[0, n, b, t]] - played.probs_PNBTA[0, n, b, t]
        gradient[n] += np.outer(played.features_PNBTF[0, n, b, t], slopes) * advantage / 8
    expected = [(gradient * slope[0, k]).sum() for k in range(4)]
    np.testing.assert_allclose(found[0], expected, atol=1e-10)


def test_the_best_incentives_open_the_door() -> None:
    room, settings = EscapeRoom(), AgentSettings()
    incentives = np.zeros((16, 5))
    incentives[8:, 2] = 5.0
    outcome = run_round(room, settings, incentives, np.full(16, 2), np.random.default_rng(0), gradient=True)
    assert outcome.welfare_P[:8].mean() < 0 and outcome.welfare_P[8:].mean() > 110
    assert outcome.paid_P[:8].tolist() == [0.0] * 8 and outcome.paid_P[8:].mean() == pytest.approx(50, abs=15)
    assert outcome.gradient_PK is not None and outcome.gradient_PK[8:].mean(0).argmax() == 2
    assert outcome.environment_steps == 16 * (60 * 16 + 16) * 5


def test_populations_do_not_see_each_other() -> None:
    room, rng = EscapeRoom(), np.random.default_rng
    weights = np.zeros((2, 5, 7, 5))
    weights[1, :, :, 3] = 50.0  # goes to the door, whatever it sees
    played = play(room, weights, np.array([0, 0]), 4, rng(0))
    assert (played.actions_PNBT[1] == 3).all() and (played.actions_PNBT[0] != 3).any()
    assert outer_sum(played, played.probs_PNBTA).shape == (2, 5, 7, 5)


@pytest.mark.parametrize("settings", [{"episodes": 1}, {"learning_rate": 0.0}, {"discount": 1.5}, {"updates": -1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        AgentSettings(**settings)  # type: ignore[arg-type]
