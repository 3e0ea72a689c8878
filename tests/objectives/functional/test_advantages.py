"""A group of equal rewards has no advantage at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.objectives.functional.advantages import group_advantages


@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("reward", [0.1, 1 / 3, -4.6, -13.8155])
def test_equal_rewards_have_no_advantage_whatever_their_mean_rounds_to(
    scale: Any, baseline: Any, reward: float
) -> None:
    for size in range(2, 20):
        reward_B = torch.full((size + 2,), reward)
        reward_B[-2] = 7.0
        group_B = torch.tensor([3] * size + [1, 1])
        advantage_B = group_advantages(reward_B, group_B, scale=scale, baseline=baseline)
        assert advantage_B[:size].tolist() == [0.0] * size, size
        assert advantage_B[-2] > 0 > advantage_B[-1]
