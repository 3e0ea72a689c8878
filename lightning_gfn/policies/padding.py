"""Padding of contexts on the left and of actions on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gfn.types import StepBatch


def pad_steps(
    contexts: Sequence[Sequence[int]], actions: Sequence[Sequence[int]], device: torch.device | str
) -> StepBatch:
    """One step of each context and its action, without end tokens."""
    return StepBatch(*pad_contexts(contexts, device), *pad_actions(actions, device))


def pad_contexts(contexts: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Ids (padded on the left with 0) and mask, both (N, C)."""
    width = max((len(context) for context in contexts), default=0)
    ids = [[0] * (width - len(context)) + list(context) for context in contexts]
    mask = [[False] * (width - len(context)) + [True] * len(context) for context in contexts]
    return (
        torch.tensor(ids, dtype=torch.int64, device=device).reshape(len(contexts), width),
        torch.tensor(mask, dtype=torch.bool, device=device).reshape(len(contexts), width),
    )


def pad_actions(actions: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Ids (padded on the right with 0) and mask, both (N, T)."""
    lengths = torch.tensor([len(action) for action in actions], dtype=torch.int64, device=device)
    mask = torch.arange(max(map(len, actions), default=0), device=device)[None] < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.int64, device=device)
    ids[mask] = torch.tensor([token for action in actions for token in action], dtype=torch.int64, device=device)
    return ids, mask
