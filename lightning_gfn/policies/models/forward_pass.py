"""What one teacher-forced pass reads: hidden states, and where prefixes of actions and contexts are among them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.types import StepBatch


@dataclass(frozen=True)
class ForwardPass:
    """Hidden states of a teacher-forced pass over N rows.

    Args:
        hidden_SH: hidden states of all positions at which actions are decided, after the final norm.
        flat_NT1: row of ``hidden_SH`` at which each of the T + 1 prefixes is read.
        context_PCH: hidden states in which contexts stand, of P passages.
        context_mask_PC: bool, True on the tokens of the context.
        passage_N: the passage of each row; None if row n has passage n.
    """

    hidden_SH: Tensor
    flat_NT1: Tensor
    context_PCH: Tensor
    context_mask_PC: Tensor
    passage_N: Tensor | None = None

    def pooled_NH(self) -> Tensor:
        """Mean of the hidden states of each row's context, float32."""
        mask_PC1 = self.context_mask_PC[:, :, None]
        pooled_PH = torch.where(mask_PC1, self.context_PCH.float(), 0.0).sum(1) / mask_PC1.sum(1)
        return pooled_PH if self.passage_N is None else pooled_PH.index_select(0, self.passage_N)


def pad_right(ids_NS: Tensor, mask_NS: Tensor, pad_id: int) -> Tensor:
    """The tokens of each row without a gap, padding at the end.

    Args:
        ids_NS: token ids.
        mask_NS: bool, True on tokens.
        pad_id: filler.

    Returns:
        ids (N, L), L the longest row.
    """
    order_NS = torch.argsort((~mask_NS).to(torch.uint8), dim=1, stable=True)
    return ids_NS.masked_fill(~mask_NS, pad_id).gather(1, order_NS)[:, : int(mask_NS.sum(1).max())]


def join_rows(steps: StepBatch, pad_id: int) -> tuple[Tensor, Tensor]:
    """Context and action of each step without a gap, padding at the end.

    So positions count from 0, and causal attention alone keeps padding unseen: no mask is needed.

    Args:
        steps: contexts and actions.
        pad_id: filler.

    Returns:
        ids (N, L), L the longest row, and the lengths of the contexts (N,).
    """
    ids_NS = torch.cat([steps.context_ids_NC, steps.action_ids_NT], dim=1)
    mask_NS = torch.cat([steps.context_mask_NC, steps.action_mask_NT], dim=1)
    return pad_right(ids_NS, mask_NS, pad_id), steps.context_mask_NC.sum(1)


def prefix_rows(first_N: Tensor, num_prefixes: int, num_positions: int) -> Tensor:
    """Where the prefixes of N rows are read in hidden states flattened to (N · L, H).

    Prefix t of row n is read t positions after prefix 0; beyond the last prefix any position will do.

    Args:
        first_N: position of prefix 0, that of the last token before the action.
        num_prefixes: T + 1.
        num_positions: L, positions of each row.

    Returns:
        int64 (N, T + 1).
    """
    prefix_T1 = torch.arange(num_prefixes, device=first_N.device)
    position_NT1 = (first_N[:, None] + prefix_T1).clamp_max(num_positions - 1)
    return torch.arange(len(first_N), device=first_N.device)[:, None] * num_positions + position_NT1
