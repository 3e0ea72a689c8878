"""A trajectory that a process scores to no effect, where the others score theirs and weights are cut over all."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.types import Rollouts


def idle_rollouts(model: LanguageModel) -> Rollouts:
    """One trajectory of one token after a context of one token."""
    token = int(model.space.allowed_V.nonzero()[0])
    first = torch.zeros(1, dtype=torch.int64, device=model.device)
    return Rollouts((), first, first, pad_steps([[token]], [[token]], model.device), ("",), ("reference",))


def nothing_of(values: Iterable[Tensor | None]) -> Tensor:
    """0, whose gradient reaches all values and is 0 there."""
    zeros = [value.masked_fill(torch.ones_like(value, dtype=torch.bool), 0.0).sum() for value in values
             if value is not None and value.requires_grad]  # fmt: skip
    return torch.stack(zeros).sum()
