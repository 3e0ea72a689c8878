"""What two passes over the same steps give, and their gradients, compared."""

from __future__ import annotations

from typing import Any

import torch

from lightning_gfn.policies.models.forward_pass import ForwardPass
from lightning_gfn.types import StepBatch


def outputs(reading: ForwardPass, steps: StepBatch) -> torch.Tensor:
    """Hidden states at every prefix that exists, then means over contexts."""
    exists = torch.arange(reading.flat_NT1.shape[1]) <= steps.lengths_N[:, None]
    return torch.cat([reading.hidden_SH[reading.flat_NT1][exists].double(), reading.pooled_NH().double()])


def with_gradients(reading: ForwardPass, steps: StepBatch, whole: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    whole.zero_grad()
    found = outputs(reading, steps)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * weights).sum().backward()
    return found.detach(), {n: p.grad.double() for n, p in whole.named_parameters() if p.grad is not None}


def compare(
    one: tuple[torch.Tensor, dict[str, torch.Tensor]], other: tuple[torch.Tensor, dict[str, torch.Tensor]], bound: float
) -> None:
    assert (one[0] - other[0]).abs().max() < bound * one[0].abs().max()
    assert one[1].keys() == other[1].keys() and one[1]
    for name, gradient in one[1].items():
        assert (gradient - other[1][name]).abs().max() < bound * gradient.abs().max(), name
