"""Contexts for an encoder and actions for a decoder laid side by side without padding, each context once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_gfn.padding import unpadded
from lightning_gfn.policies.teacher_forcing.packing import (
    Block,
    Layout,
    by_context,
    distinct,
    grouped,
    lay_out_contexts,
    mask_of,
    side_by_side,
    spans_to_index,
)
from lightning_gfn.policies.teacher_forcing.tries import Sequence
from lightning_gfn.types import StepBatch


@dataclass(frozen=True)
class Seq2SeqPacking:
    """N steps as positions of an encoder and positions of a decoder, and how they attend to each other.

    Args:
        context_ids_E: tokens of different contexts.
        context_blocks: what they attend to.
        ids_S: tokens of the decoder, a start token before each action.
        own_blocks: what they attend to among themselves.
        cross_blocks: what they attend to among contexts.
        flat_NT1: packed position at which each prefix of each action is read.
        context_PC: int64, packed positions of each of P different contexts.
        context_mask_PC: bool, True on tokens.
        passage_N: the context of each step.
    """

    context_ids_E: Tensor
    context_blocks: list[Block]
    ids_S: Tensor
    own_blocks: list[Block]
    cross_blocks: list[Block]
    flat_NT1: Tensor
    context_PC: Tensor
    context_mask_PC: Tensor
    passage_N: Tensor


def pack_seq2seq(steps: StepBatch, start_id: int) -> Seq2SeqPacking:
    """Lay out steps so that equal contexts, and equal actions behind one, are read once and no position is padding.

    Args:
        steps: contexts and actions.
        start_id: the token before every action.
    """
    device, width = steps.context_ids_NC.device, steps.action_ids_NT.shape[1]
    number, passage_N = distinct(unpadded(steps.context_ids_NC, steps.context_mask_NC))
    rows = zip(passage_N, unpadded(steps.action_ids_NT, steps.action_mask_NT), strict=True)
    different, action_N = distinct(rows)
    contexts, actions = Layout(device), Layout(device)
    spans_P, action_starts = lay_out_contexts(contexts, number), [0] * len(different)
    for group in grouped([Sequence(row, at, (start_id, *tokens)) for row, (at, tokens) in enumerate(different)]):
        ordered, sizes = by_context(group, together=None)
        firsts = itertools.accumulate(sizes[:-1], initial=0)
        actions.add(ordered, sizes, [spans_P[ordered[first].passage] for first in firsts], action_starts)
    context_PC, context_mask_PC = spans_to_index(spans_P, device)
    action_N1 = torch.tensor([action_starts[action] for action in action_N], device=device)[:, None]
    return Seq2SeqPacking(
        context_ids_E=torch.tensor(contexts.ids, device=device),
        context_blocks=[seeing_all(block) for block in contexts.blocks],
        ids_S=torch.tensor(actions.ids, device=device),
        own_blocks=[seeing_itself(block) for block in actions.blocks],
        cross_blocks=[seeing_context(block) for block in actions.blocks],
        flat_NT1=(action_N1 + torch.arange(width + 1, device=device)).clamp_max(len(actions.ids) - 1),
        context_PC=context_PC,
        context_mask_PC=context_mask_PC,
        passage_N=torch.tensor(passage_N, device=device),
    )


def seeing_all(block: Block) -> Block:
    """Sequences whose tokens see those before and after them."""
    batch, _, length = block.shape
    mask_BQL = block.mask_BQL.new_zeros(1, 1, length)
    if block.place_S is not None:
        mask_BQL = mask_BQL.new_full((batch * length,), -torch.inf).index_fill_(0, block.place_S, 0.0)
    return replace(block, mask_BQL=mask_BQL.view(-1, 1, length).expand(-1, length, -1))


def seeing_itself(block: Block) -> Block:
    """Each sequence alone, without its context."""
    batch, samples, length = block.shape
    seen_BC = torch.ones(1, 0, dtype=torch.bool, device=block.mask_BQL.device)
    own_1QQ = side_by_side(1, length)[None].to(seen_BC.device)
    return replace(block, shape=(batch * samples, 1, length), context_BC=None, mask_BQL=mask_of(seen_BC, own_1QQ))


def seeing_context(block: Block) -> Block:
    """Contexts alone, which all tokens of their sequences see."""
    assert block.context_BC is not None
    batch, samples, length = block.shape
    queries, context = samples * length, block.context_BC.shape[1]
    own = block.mask_BQL.shape[2] == queries
    mask_BQL = block.mask_BQL.new_zeros(1, queries, context) if own else block.mask_BQL[:, :, :context]
    return replace(block, mask_BQL=mask_BQL, sees_itself=False)
