"""A policy over a few outcomes, whose expectations over all batches of samples are enumerated."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_gfn.types import LossOutput

LOGITS = [0.4, -0.3, 0.9, -1.1]
Weights = Callable[[list[int]], Tensor]


def objective_gradient(objective: Callable[[list[int]], float], num_samples: int) -> Tensor:
    """Gradient with respect to the logits of E[objective(outcomes of the samples)], by enumeration."""
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    log_p = logits.log_softmax(0)
    value = torch.stack(
        [
            log_p[list(batch)].sum().exp() * objective(list(batch))
            for batch in itertools.product(range(len(LOGITS)), repeat=num_samples)
        ]
    ).sum()
    return torch.autograd.grad(value, logits)[0]


def expected_estimate(weights: Weights, num_samples: int) -> Tensor:
    """E[(1/n) Σ_i A_i ∇ log p(z_i)] over all batches of n samples."""
    p = torch.tensor(LOGITS, dtype=torch.float64).softmax(0)
    score = torch.eye(len(LOGITS), dtype=torch.float64) - p  # row z: gradient of log p(z)
    total = torch.zeros(len(LOGITS), dtype=torch.float64)
    for batch in itertools.product(range(len(LOGITS)), repeat=num_samples):
        rows = list(batch)
        total += p[rows].prod() * (weights(rows)[:, None] * score[rows]).mean(0)
    return total


@pytest.fixture
def true_gradient() -> Callable[..., Tensor]:
    """``objective_gradient``."""
    return objective_gradient


@pytest.fixture
def estimate() -> Callable[..., Tensor]:
    """``expected_estimate``."""
    return expected_estimate


@pytest.fixture
def loss_of() -> Callable[..., LossOutput]:
    """The loss of an objective on a rollout batch that serves one update."""
    return lambda objective, columns: objective({**columns, **objective.prepare(columns)})


@pytest.fixture
def grpo_columns(make_batch: Callable[..., object]) -> dict[str, Tensor]:
    """Three problems of four samples, rewards of 0 and 1, an old policy near the present one, and classes."""
    b = make_batch([5, 2, 1, 8, 3, 4, 7, 6, 8, 2, 3, 5])
    generator = torch.Generator().manual_seed(9)
    old = {
        f"old_{name}": value.detach() + 0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in vars(b).items()
        if name in ("log_pf_BT", "log_pstop_BT1")
    }
    return {
        **{name: value for name, value in vars(b).items() if isinstance(value, Tensor)},
        **old,
        "log_reward_B": torch.tensor([1, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0], dtype=torch.float64),
        "class_B": torch.tensor([0, 0, 0, 1, 0, 1, 0, 0, 2, -1, 1, -1]),
        "entropy_BT1": torch.rand(12, 9, generator=generator, dtype=torch.float64),
        "entropy_coefficient": torch.tensor(0.3, dtype=torch.float64),
    }
