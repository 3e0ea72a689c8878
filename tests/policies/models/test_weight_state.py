"""What tells that a working copy of weights is out of date, each sign alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_gfn.policies.models.weight_state import PROBES, WeightState

UNSEEN = 1
"""A value between two probes: no comparison of values sees it change."""


@pytest.fixture
def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4 * PROBES, 1, bias=False)


def test_a_fused_step_is_seen_by_the_optimiser_alone(model: nn.Linear) -> None:
    """Fused optimisers write without raising a version, and the one value that moves here is no probe."""
    before, weight = WeightState(torch.float32, model.parameters()), model.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0, fused=True)
    model.weight.grad = torch.zeros_like(model.weight)
    model.weight.grad[0, UNSEEN] = 1.0
    optimizer.step()
    moved = (model.weight.detach() != weight)[0].nonzero().squeeze(1)
    assert moved.tolist() == [UNSEEN]
    after = WeightState(torch.float32, model.parameters())
    assert torch.equal(after.probes, before.probes) and not after.equals(before)


def test_a_write_through_data_is_seen_by_the_probes_alone(model: nn.Linear) -> None:
    before = WeightState(torch.float32, model.parameters())
    model.weight.data[0, 0] += 1.0
    after = WeightState(torch.float32, model.parameters())
    assert after.key == before.key and not after.equals(before)


def test_nothing_done_is_no_change(model: nn.Linear) -> None:
    assert WeightState(torch.float32, model.parameters()).equals(WeightState(torch.float32, model.parameters()))
    assert not WeightState(torch.bfloat16, model.parameters()).equals(WeightState(torch.float32, model.parameters()))
