"""Padding of contexts on the left and of actions on the right, and the rows without it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gfn.types import StepBatch


def pad_steps(
    contexts: Sequence[Sequence[int]],
    actions: Sequence[Sequence[int]],
    device: torch.device | str,
    inserted: Sequence[Sequence[int]] | None = None,
) -> StepBatch:
    """One step of each context and its action, without end tokens.

    Args:
        contexts: N token id sequences.
        actions: N token id sequences.
        device: of the tensors.
        inserted: places in each action of tokens that a tool wrote; None where no policy has tools.
    """
    ids, mask = pad_actions(actions, device)
    return StepBatch(*pad_contexts(contexts, device), ids, mask, pad_places(inserted, mask))


def pad_places(places: Sequence[Sequence[int]] | None, like_NT: Tensor) -> Tensor | None:
    """Places in rows as a mask of the shape of another one; None stays None."""
    if places is None:
        return None
    mask_NT = torch.zeros_like(like_NT, dtype=torch.bool)
    rows = [n for n, row in enumerate(places) for _ in row]
    mask_NT[rows, [t for row in places for t in row]] = True
    return mask_NT


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


def unpadded(ids_NS: Tensor, mask_NS: Tensor) -> list[tuple[int, ...]]:
    """The tokens of each row."""
    flat = ids_NS[mask_NS].tolist()
    rows, start = [], 0
    for length in mask_NS.sum(1).tolist():
        rows.append(tuple(flat[start : start + length]))
        start += length
    return rows
