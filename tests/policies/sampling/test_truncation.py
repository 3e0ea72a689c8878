"""The nucleus by selection is the nucleus by sorting, ties included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_gfn.policies.sampling import truncation
from lightning_gfn.policies.sampling.truncation import nucleus


def sorted_nucleus(logits_V: Tensor, top_p: float) -> Tensor:
    """Take actions from the most probable one on, the first of equal ones first, until their mass reaches p."""
    values = logits_V.double().softmax(0).tolist()
    kept, mass = torch.zeros(len(values), dtype=torch.bool), 0.0
    for index in sorted(range(len(values)), key=lambda v: (-values[v], v)):
        if mass >= top_p:
            break
        kept[index] = True
        mass += values[index]
    return kept


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.93, 0.999])
@pytest.mark.parametrize("candidates", [(), (2,), (2, 16), (256, 4096)])
@pytest.mark.parametrize("ties", [False, True])
def test_a_nucleus_is_what_sorting_gives(
    monkeypatch: pytest.MonkeyPatch, top_p: float, candidates: tuple[int, ...], ties: bool
) -> None:
    monkeypatch.setattr(truncation, "CANDIDATES", candidates)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(12, 90, generator=generator) * torch.linspace(0.1, 6.0, 12)[:, None]
    if ties:
        logits = logits.round()
    logits[torch.rand(logits.shape, generator=generator) < 0.3] = -torch.inf
    logits[:, 40] = 0.25
    expected = torch.stack([sorted_nucleus(row, top_p) for row in logits])
    assert torch.equal(nucleus(logits, top_p), expected)
