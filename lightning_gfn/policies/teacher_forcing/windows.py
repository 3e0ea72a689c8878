"""What packed tokens see of their rows in layers whose attention has a window."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lightning_gfn.policies.teacher_forcing.packing import Block, Packing


def within_window(packing: Packing, window: int | None) -> list[Block]:
    """The blocks, in which a token at position i sees those from i - window + 1 on.

    Args:
        packing: all rows.
        window: tokens that one sees, itself among them; None for all before it.
    """
    if window is None or packing.num_positions <= window:
        return packing.blocks
    return [narrowed(block, packing.position_S, window) for block in packing.blocks]


def narrowed(block: Block, position_S: Tensor, window: int) -> Block:
    """The same block with a mask over all its keys."""
    batch, samples, length = block.shape
    own_S = position_S[block.start : block.stop]
    query_BQ = own_S.new_zeros(batch * samples * length)
    query_BQ[slice(None) if block.place_S is None else block.place_S] = own_S
    query_BQ = query_BQ.view(batch, -1)
    key_BL = query_BQ
    if block.context_BC is not None:
        key_BL = torch.cat([position_S[block.context_BC], query_BQ], dim=1)
    mask_BQL = block.mask_BQL.new_zeros(batch, query_BQ.shape[1], key_BL.shape[1])
    mask_BQL[:, :, key_BL.shape[1] - block.mask_BQL.shape[2] :] = block.mask_BQL
    far_BQL = query_BQ[:, :, None] - key_BL[:, None] >= window
    itself_BQL = torch.arange(query_BQ.shape[1], device=far_BQL.device)
    far_BQL[:, itself_BQL, key_BL.shape[1] - query_BQ.shape[1] + itself_BQL] = False
    return replace(block, mask_BQL=mask_BQL.masked_fill_(far_BQL, -torch.inf))
