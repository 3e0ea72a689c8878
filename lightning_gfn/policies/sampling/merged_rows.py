"""Decoding rows that hold the same tokens as one, until they differ."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.policies.sampling.generation import Decoder


class MergedRows(Decoder):
    """Decodes N rows, of which those that hold the same tokens are one state of another decoder.

    Samples of a prompt begin alike, and where actions are few, short or nearly certain many stay so: logits are those
    of the state. Once every row has a state of its own the rows are the other decoder's.

    Args:
        inner: decodes the states; a fresh one.
    """

    def __init__(self, inner: Decoder) -> None:
        self.inner, self.columns_K = inner, inner.columns_K
        self.num_states = 0
        self.apart = False

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        return self.inner.prefill(ids_PC, mask_PC)

    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        """See ``Decoder.expand``; the states are made by the first step, which tells rows of a prompt apart."""
        self.present_R, self.num_steps = rows_N, num_steps
        self.room = len(rows_N) if room is None else room

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        if self.apart:
            return self.inner.step(tokens_R)
        num_rows, span = len(tokens_R), int(tokens_R.max()) + 1
        keys_D, row_state_R = torch.unique(self.present_R * span + tokens_R, return_inverse=True)
        parent_D, token_D = keys_D // span, keys_D % span
        if self.apart_now(len(keys_D), num_rows):
            self.arrange(self.present_R, torch.arange(num_rows, device=tokens_R.device))
            self.state_R = None
            return self.inner.step(tokens_R)
        slot_D = self.slots(parent_D)
        self.arrange(parent_D, slot_D)
        self.state_R = self.present_R = slot_D.index_select(0, row_state_R)
        return self.inner.step(torch.empty_like(token_D).index_copy(0, slot_D, token_D))

    def apart_now(self, num_states: int, num_rows: int) -> bool:
        """True from the step on in which no two rows are alike."""
        self.apart = num_states == num_rows
        return self.apart

    def slots(self, parent_D: Tensor) -> Tensor:
        """Where each state goes: the first child of a state stays in its place if there is one, others fill gaps.

        Args:
            parent_D: the state that each one goes on from, in ascending order.
        """
        num_states = len(parent_D)
        stays_D = parent_D < num_states
        stays_D[1:] &= parent_D[1:] != parent_D[:-1]
        is_free_D = torch.ones_like(stays_D)
        is_free_D[parent_D[stays_D]] = False
        slot_D = parent_D.clone()
        slot_D[~stays_D] = is_free_D.nonzero().squeeze(1)
        return slot_D

    def arrange(self, parent_D: Tensor, slot_D: Tensor) -> None:
        """Make slot ``slot_D[i]`` of the other decoder a copy of ``parent_D[i]``, and keep those D alone."""
        if self.num_states == 0:
            prompt_D = torch.empty_like(parent_D).index_copy(0, slot_D, parent_D)
            self.inner.expand(prompt_D, self.num_steps, self.room)
        else:
            moved = (parent_D != slot_D).nonzero().squeeze(1)
            self.inner.move_rows(slot_D[moved], parent_D[moved], len(parent_D))
        self.num_states = len(parent_D)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        if self.apart:
            self.inner.move_rows(target_R, source_R, num_rows)
        else:
            moved_R = self.present_R.index_copy(0, target_R, self.present_R[source_R])
            self.present_R = moved_R[:num_rows]
