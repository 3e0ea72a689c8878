"""PPO against the statements of TRL 1.12's trainer, the last release that had one, executed on the same tensors.

Runs where TRL's files are at hand: ``TRL_SOURCE`` names the folder that holds ``trl/`` (an unpacked wheel).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_gfn.objectives.functional.gae import action_rewards, generalised_advantages, whitened
from lightning_gfn.objectives.ppo import ppo_loss

FILE = Path(os.environ.get("TRL_SOURCE", "/nonexistent")) / "trl/experimental/ppo/ppo_trainer.py"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="TRL_SOURCE is not set")
Execute = Callable[[Path, str, str, dict[str, Any]], dict[str, Any]]
B, T = 5, 7
SETTINGS = {"gamma": 0.97, "lam": 0.9, "cliprange": 0.2, "cliprange_value": 0.3, "vf_coef": 0.1, "kl_coef": 0.05}


def draw(seed: int, spread: float = 1.0) -> torch.Tensor:
    return spread * torch.randn(B, T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("whole", [True, False], ids=["cut at the maximum", "ended before"])
def test_loss_and_gradient(whole: bool, execute: Execute) -> None:
    """Rows of any length agree in the policy term; values too where TRL counts no position beyond the end."""
    lengths = torch.tensor([T] * B if whole else [3, 7, 1, 5, 6])
    mask = torch.arange(T) < lengths.unsqueeze(1)
    advantage, old, returns, old_value = draw(0), -draw(1).abs(), draw(2), draw(3)
    log_pf = (old + draw(4, 0.3)).requires_grad_()
    value = (old_value + draw(5, 0.5)).requires_grad_()
    rows = slice(None)
    names = {
        "vpred": value, "mb_values": old_value, "mb_return": returns, "mb_advantage": advantage,
        "new_logprobs": torch.where(mask, log_pf, 1.0), "mb_logprobs": torch.where(mask, old, 1.0),
        "padding_mask": ~mask, "padding_mask_p1": ~mask, "micro_batch_inds": rows, "args": SimpleNamespace(**SETTINGS),
    }  # fmt: skip
    theirs = execute(FILE, "vpredclipped =", "loss = pg_loss", names)["loss"]
    ours = ppo_loss(log_pf, old, mask, advantage, value, old_value, returns, value_clip=0.3, value_coefficient=0.1)
    torch.testing.assert_close(ours.loss, theirs, atol=1e-12, rtol=1e-12)
    for leaf in (log_pf, value):
        found, wanted = (torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (ours.loss, theirs))
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
        assert wanted.abs().sum() > 0


def test_rewards_advantages_and_returns(execute: Execute) -> None:
    """Rows of full length: on shorter ones TRL puts the score and a value one position beyond the end token."""
    log_pf, ref, value = -draw(0).abs(), -draw(1).abs(), draw(2)
    score = torch.arange(B, dtype=torch.float64)
    mask = torch.ones(B, T, dtype=torch.bool)
    names = {
        "logprobs": log_pf, "ref_logprobs": ref, "values": value, "scores": score, "responses": value,
        "sequence_lengths": torch.full((B,), T - 1), "sequence_lengths_p1": torch.full((B,), T),
        "padding_mask": ~mask, "padding_mask_p1": ~mask,
        "args": SimpleNamespace(**SETTINGS, kl_estimator="k1", whiten_rewards=False),
    }  # fmt: skip
    theirs = execute(FILE, "logr =", "advantages = torch.masked_fill", names)
    reward = action_rewards(score, SETTINGS["kl_coef"] * (log_pf - ref), mask)
    advantage, returns = generalised_advantages(reward, value, mask, gamma=0.97, lam=0.9)
    torch.testing.assert_close(reward, theirs["rewards"], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(returns, theirs["returns"], atol=1e-12, rtol=1e-12)
    # TRL's n / (n - 1) is a float32 quotient of integers.
    torch.testing.assert_close(whitened(advantage, mask), theirs["advantages"], atol=1e-6, rtol=1e-6)
