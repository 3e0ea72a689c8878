"""PKPO against all subsets, and its gradient against the enumerated one; MaxRL against the series it truncates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.pass_at_k import PassAtK, pass_at_k_advantages
from lightning_gfn.objectives.functional.advantages import group_advantages
from lightning_gfn.objectives.grpo import GRPO

REWARDS = [0.0, 1.0, 0.3, 0.3]
BINARY = [0.0, 1.0, 0.0, 1.0]
CASES = [("none", 1), ("none", 3), ("none", 6), ("leave_one_out", 1), ("leave_one_out", 3), ("leave_one_out", 5),
         ("k_minus_one", 2), ("k_minus_one", 4), ("k_minus_one", 6)]  # fmt: skip
Gradient = Callable[..., Tensor]


def by_subsets(reward: list[float], k: int, baseline: str) -> list[float]:
    """n times the paper's s_i (equation 19), s_i^loo (29) and s_i^loo-1 (33), as sums over subsets."""
    n = len(reward)

    def weight(i: int, members: list[int]) -> float:
        subsets = list(itertools.combinations(members, k))
        return sum(max(reward[j] for j in s) for s in subsets if i in s) / len(subsets)

    found = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        value = weight(i, list(range(n)))
        if baseline == "leave_one_out":
            value -= sum(weight(j, others) for j in others) / (n - 1)
        elif baseline == "k_minus_one":
            held = [s for s in itertools.combinations(range(n), k) if i in s]
            value -= sum(max(reward[j] for j in s if j != i) for s in held) / math.comb(n, k)
        found.append(n * value)
    return found


@pytest.mark.parametrize(("baseline", "k"), CASES)
@pytest.mark.parametrize("binary", [True, False])
def test_all_subsets(baseline: str, k: int, binary: bool) -> None:
    drawn = torch.rand(5, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    two_equal = torch.cat([drawn, drawn[:1]])
    reward = torch.tensor([0, 1, 0, 0, 1, 0], dtype=torch.float64) if binary else two_equal
    expected = torch.tensor(by_subsets(reward.tolist(), k, baseline), dtype=torch.float64)
    torch.testing.assert_close(pass_at_k_advantages(reward, k, baseline), expected, atol=1e-12, rtol=1e-12)
    assert expected.abs().sum() > 0 or (binary and k == 6), "either of two right samples is spared"


@pytest.mark.parametrize(("baseline", "k"), [("none", 2), ("leave_one_out", 2), ("k_minus_one", 2), ("none", 3),
                                             ("leave_one_out", 3), ("k_minus_one", 4)])  # fmt: skip
@pytest.mark.parametrize("rewards", [REWARDS, BINARY])
def test_the_gradient_is_unbiased(
    baseline: str, k: int, rewards: list[float], true_gradient: Gradient, estimate: Gradient
) -> None:
    table = torch.tensor(rewards, dtype=torch.float64)
    found = estimate(lambda batch: pass_at_k_advantages(table[batch], k, baseline), 4)
    expected = true_gradient(lambda batch: max(rewards[z] for z in batch), k)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert (found - true_gradient(lambda batch: rewards[batch[0]], 1)).abs().max() > 1e-3, "no pass@1 in disguise"


def test_one_sample_is_the_policy_gradient() -> None:
    reward = torch.tensor([0.2, 1.0, 0.0, 0.7], dtype=torch.float64)
    torch.testing.assert_close(pass_at_k_advantages(reward, 1, "none"), reward)
    mean = (reward.sum() - reward) / 3
    torch.testing.assert_close(pass_at_k_advantages(reward, 1, "leave_one_out"), reward - 4 / 3 * mean)


def test_groups_are_apart(grpo_columns: dict[str, Tensor]) -> None:
    rule = PassAtK(3)
    found = GRPO(advantage=rule, advantage_scale="none").prepare(grpo_columns)["advantage_B"]
    for group in grpo_columns["group_B"].unique():
        rows = grpo_columns["group_B"] == group
        expected = by_subsets(grpo_columns["log_reward_B"][rows].tolist(), 3, "k_minus_one")
        torch.testing.assert_close(found[rows], torch.tensor(expected, dtype=torch.float64))


def test_large_groups_keep_their_digits() -> None:
    """One right sample of 64 is in half of the subsets of 32."""
    reward = torch.zeros(64)
    reward[5] = 1.0
    found = pass_at_k_advantages(reward, 32, "k_minus_one")
    assert found[5].item() == pytest.approx(32.0) and found[0].item() == pytest.approx(0.0, abs=1e-4)
    assert found.dtype == torch.float32


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="advantage.k is 0"):
        PassAtK(0)
    with pytest.raises(ValueError, match="leaves no other sample: set advantage.baseline to leave_one_out"):
        PassAtK(1)
    with pytest.raises(ValueError, match="4 samples.*model.num_samples of at least 5"):
        pass_at_k_advantages(torch.zeros(4), 4, "leave_one_out")
    with pytest.raises(ValueError, match="PassAtK has its own baseline and scale: set advantage_scale to none"):
        GRPO(advantage=PassAtK(2))
    assert (PassAtK(4).min_samples, PassAtK(4, baseline="leave_one_out").min_samples) == (4, 5)


def maxrl(rewards: list[float], batch: list[int]) -> Tensor:
    reward = torch.tensor(rewards, dtype=torch.float64)[batch]
    return group_advantages(reward, torch.zeros(len(batch), dtype=torch.int64), scale="mean")


@pytest.mark.parametrize("num_samples", [2, 3, 5])
def test_maxrl_is_the_gradient_of_its_series(num_samples: int, true_gradient: Gradient, estimate: Gradient) -> None:
    """Σ_k<n (1/k) ∇ pass@k: without a success nothing is left, the control variate included."""
    found = estimate(lambda batch: maxrl(BINARY, batch), num_samples)
    series = sum(true_gradient(lambda batch: max(BINARY[z] for z in batch), k) / k for k in range(1, num_samples))
    torch.testing.assert_close(found, series, atol=1e-12, rtol=1e-12)


def test_maxrl_with_the_control_variate_kept_has_one_term_more(true_gradient: Gradient, estimate: Gradient) -> None:
    """The paper's theorem: r / K - 1 / N, with the second part where K = 0 as well."""

    def kept(batch: list[int]) -> Tensor:
        return maxrl(BINARY, batch) - float(not any(BINARY[z] for z in batch))

    series = sum(true_gradient(lambda batch: max(BINARY[z] for z in batch), k) / k for k in range(1, 5))
    torch.testing.assert_close(estimate(kept, 4), series, atol=1e-12, rtol=1e-12)


def test_maxrl_by_hand_and_its_refusals() -> None:
    group = torch.tensor([0, 0, 0, 0, 1, 1])
    found = group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), group, scale="mean")
    assert found.tolist() == [3.0, -1.0, -1.0, -1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="some rewards are below 0"):
        group_advantages(torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0, 0.0]), group, scale="mean")
    with pytest.raises(ValueError, match="set baseline to group"):
        GRPO(advantage_scale="mean", baseline="leave_one_out")
    with pytest.raises(ValueError, match="overlong_share to 0"):
        GRPO(advantage_scale="mean", overlong_share=0.2)
