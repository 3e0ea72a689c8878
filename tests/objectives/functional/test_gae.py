"""Rewards per action, advantages and whitening: written sums, limits, padding."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.functional.gae import action_rewards, generalised_advantages, whitened

LENGTHS = [4, 1, 6, 3]
T = 7
MASK = torch.arange(T) < torch.tensor(LENGTHS).unsqueeze(1)


def random(seed: int) -> Tensor:
    return torch.randn(len(LENGTHS), T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_reward_stands_at_the_last_action() -> None:
    penalty, reward = random(0), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    found = action_rewards(reward, penalty, MASK)
    for b, n in enumerate(LENGTHS):
        expected = [-penalty[b, t].item() + (reward[b].item() if t == n - 1 else 0.0) for t in range(n)]
        assert found[b].tolist() == pytest.approx(expected + [0.0] * (T - n))


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (0.99, 0.0), (0.95, 1.0)])
def test_advantages_are_the_written_sum_of_errors(gamma: float, lam: float) -> None:
    """A_t = Σ_k (γλ)^k δ_{t+k}: the closed form, not the recurrence."""
    reward, value = random(1), random(2)
    advantage, returns = generalised_advantages(reward, value, MASK, gamma=gamma, lam=lam)
    for b, n in enumerate(LENGTHS):
        r, v = reward[b].tolist(), [*value[b, :n].tolist(), 0.0]
        error = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
        expected = [sum((gamma * lam) ** k * error[t + k] for k in range(n - t)) for t in range(n)]
        assert advantage[b, :n].tolist() == pytest.approx(expected)
        assert returns[b, :n].tolist() == pytest.approx([a + x for a, x in zip(expected, v, strict=False)])
        assert advantage[b, n:].tolist() == returns[b, n:].tolist() == [0.0] * (T - n)


def test_limits_of_lambda() -> None:
    reward, value = random(3), random(4)
    whole, targets = generalised_advantages(reward, value, MASK, gamma=0.9, lam=1.0)
    step, _ = generalised_advantages(reward, value, MASK, gamma=0.9, lam=0.0)
    for b, n in enumerate(LENGTHS):
        for t in range(n):
            discounted = sum(0.9 ** (s - t) * reward[b, s].item() for s in range(t, n))
            assert whole[b, t].item() == pytest.approx(discounted - value[b, t].item())
            assert targets[b, t].item() == pytest.approx(discounted)
            after = value[b, t + 1].item() if t + 1 < n else 0.0
            assert step[b, t].item() == pytest.approx(reward[b, t].item() + 0.9 * after - value[b, t].item())


def test_padding_is_never_read() -> None:
    reward, value = random(5), random(6)
    clean = generalised_advantages(reward, value, MASK, gamma=0.9, lam=0.8)
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    dirty = generalised_advantages(
        torch.where(MASK, reward, nan), torch.where(MASK, value, nan), MASK, gamma=0.9, lam=0.8
    )
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))


@pytest.mark.parametrize("plant", ["gamma", "mask", "value of the next prefix"])
def test_planted_errors_are_caught(plant: str) -> None:
    reward, value = random(1), random(2)
    good, _ = generalised_advantages(reward, value, MASK, gamma=0.9, lam=0.7)
    wrong = {
        "gamma": lambda: generalised_advantages(reward, value, MASK, gamma=1.0, lam=0.7),
        "mask": lambda: generalised_advantages(reward, value, torch.ones_like(MASK), gamma=0.9, lam=0.7),
        "value of the next prefix": lambda: generalised_advantages(reward, value.roll(1, 1), MASK, gamma=0.9, lam=0.7),
    }[plant]()[0]
    assert (wrong - good)[MASK].abs().max() > 1e-2


def test_whitening_is_that_of_the_standard_library() -> None:
    values = 3 * random(7) + 5
    found = whitened(values, MASK)
    chosen = values[MASK].tolist()
    mean, std = statistics.mean(chosen), statistics.stdev(chosen)
    assert found[MASK].tolist() == pytest.approx([(x - mean) / std for x in chosen], rel=1e-6)
    assert not found[~MASK].any()
    alone = torch.ones(1, 1, dtype=torch.float64)
    assert whitened(alone, alone.bool()).item() == 0.0


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="lam is 1.1"):
        generalised_advantages(random(0), random(1), MASK, gamma=1.0, lam=1.1)
    with pytest.raises(ValueError, match="value_BT has shape"):
        generalised_advantages(random(0), random(1)[:, :-1], MASK, gamma=1.0, lam=1.0)
