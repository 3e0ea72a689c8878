"""Rows laid side by side without padding, each context once, in the order in which attention reads them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.types import StepBatch

GROWTH = 1.25
"""Sequences whose lengths differ by less than this factor share a block."""
SHORTEST = 16
"""Lengths up to this are not told apart."""
TOGETHER = 64
"""Short sequences of one context share a copy of its keys, up to so many tokens; each then sees the others masked."""


@dataclass(frozen=True)
class Block:
    """Sequences of like lengths that attend to contexts of their own: B contexts with K sequences of T tokens each.

    Each context's keys are the C tokens of the context and the K · T of its sequences.

    Args:
        start: first of its positions among all packed ones.
        stop: one beyond the last.
        shape: (B, K, T).
        place_S: int64, the place (b, k, t), flattened, of each packed position; None if every place holds one in turn.
        context_BC: int64, packed positions of the contexts; None if the sequences are contexts themselves.
        mask_BQL: 0 on the last keys that a token may see, -inf on others; first keys that all tokens see are left out.
    """

    start: int
    stop: int
    shape: tuple[int, int, int]
    place_S: Tensor | None
    context_BC: Tensor | None
    mask_BQL: Tensor


@dataclass(frozen=True)
class Packing:
    """N steps as S positions, and how they attend to each other.

    Args:
        ids_S: tokens.
        position_S: int64, position of each token in its row.
        blocks: contexts first, then actions; together they hold every position once.
        flat_NT1: packed position at which each prefix of each action is read.
        context_PC: int64, packed positions of each of P different contexts.
        context_mask_PC: bool, True on tokens.
        passage_N: the context of each step.
        num_positions: length of the longest row.
    """

    ids_S: Tensor
    position_S: Tensor
    blocks: list[Block]
    flat_NT1: Tensor
    context_PC: Tensor
    context_mask_PC: Tensor
    passage_N: Tensor
    num_positions: int


@dataclass(frozen=True)
class _Sequence:
    """Tokens that follow a context: ``row`` names the context itself, or the action."""

    row: int
    passage: int
    tokens: tuple[int, ...]


def pack(steps: StepBatch) -> Packing:
    """Lay out steps so that equal contexts are read once and no position is padding.

    Args:
        steps: contexts and actions.

    Returns:
        the layout, on the device of the steps.
    """
    device = steps.context_ids_NC.device
    contexts_N = rows_of(steps.context_ids_NC, steps.context_mask_NC)
    actions_N = rows_of(steps.action_ids_NT, steps.action_mask_NT)
    number: dict[tuple[int, ...], int] = {}
    passage_N = [number.setdefault(context, len(number)) for context in contexts_N]
    contexts = [_Sequence(row, row, tokens) for row, tokens in enumerate(number)]
    actions = [_Sequence(n, passage_N[n], tokens) for n, tokens in enumerate(actions_N) if tokens]
    ids: list[int] = []
    positions: list[int] = []
    context_starts, action_starts = [0] * len(contexts), [0] * len(actions_N)
    blocks = []
    for group in grouped(contexts):
        blocks.append(_block(group, [1] * len(group), len(ids), None, device))
        for sequence in group:
            context_starts[sequence.row] = len(ids)
            ids += sequence.tokens
            positions += range(len(sequence.tokens))
    lengths_P = [len(tokens) for tokens in number]
    for group in grouped(actions):
        ordered, sizes = by_context(group)
        parts = [ordered[sum(sizes[:b])].passage for b in range(len(sizes))]
        spans = [(context_starts[p], lengths_P[p]) for p in parts]
        blocks.append(_block(ordered, sizes, len(ids), spans, device))
        for sequence in ordered:
            action_starts[sequence.row] = len(ids)
            ids += sequence.tokens
            positions += range(lengths_P[sequence.passage], lengths_P[sequence.passage] + len(sequence.tokens))
    context_PC, mask_PC = spans_to_index([(s, n) for s, n in zip(context_starts, lengths_P, strict=True)], device)
    passages = torch.tensor(passage_N, device=device)
    last_context_N = torch.tensor([context_starts[p] + lengths_P[p] - 1 for p in passage_N], device=device)
    first_action_N = torch.tensor(action_starts, device=device)
    columns_T = torch.arange(steps.action_ids_NT.shape[1], device=device)
    action_NT = torch.minimum(first_action_N[:, None] + columns_T, torch.tensor(len(ids) - 1, device=device))
    return Packing(
        ids_S=torch.tensor(ids, device=device),
        position_S=torch.tensor(positions, device=device),
        blocks=blocks,
        flat_NT1=torch.cat([last_context_N[:, None], action_NT], dim=1),
        context_PC=context_PC,
        context_mask_PC=mask_PC,
        passage_N=passages,
        num_positions=max(positions) + 1,
    )


def rows_of(ids_NS: Tensor, mask_NS: Tensor) -> list[tuple[int, ...]]:
    """The tokens of each row."""
    flat = ids_NS[mask_NS].tolist()
    rows, start = [], 0
    for length in mask_NS.sum(1).tolist():
        rows.append(tuple(flat[start : start + length]))
        start += length
    return rows


def grouped(sequences: list[_Sequence]) -> list[list[_Sequence]]:
    """Sequences of like lengths together, shortest first."""
    groups: list[list[_Sequence]] = []
    for sequence in sorted(sequences, key=lambda s: len(s.tokens)):
        length = len(sequence.tokens)
        if groups and length <= max(SHORTEST, int(GROWTH * len(groups[-1][0].tokens))):
            groups[-1].append(sequence)
        else:
            groups.append([sequence])
    return groups


def by_context(sequences: list[_Sequence]) -> tuple[list[_Sequence], list[int]]:
    """Sequences of one context side by side, in parts of at most the mean number, so that little is padding.

    Args:
        sequences: the longest one last.

    Returns:
        the sequences, and the size of each part.
    """
    of_passage: dict[int, list[_Sequence]] = defaultdict(list)
    for sequence in sequences:
        of_passage[sequence.passage].append(sequence)
    most = min(-(-len(sequences) // len(of_passage)), max(1, TOGETHER // len(sequences[-1].tokens)))
    ordered: list[_Sequence] = []
    sizes = []
    for members in of_passage.values():
        for start in range(0, len(members), most):
            part = members[start : start + most]
            ordered += part
            sizes.append(len(part))
    return ordered, sizes


def spans_to_index(spans: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of (start, length) spans, padded on the right by the last one, and their mask."""
    starts, lengths = torch.tensor(spans, device=device).T
    column = torch.arange(int(lengths.max()), device=device)
    mask = column < lengths[:, None]
    return starts[:, None] + torch.minimum(column, lengths[:, None] - 1), mask


def _block(
    ordered: list[_Sequence], sizes: list[int], start: int, contexts: list[tuple[int, int]] | None, device: torch.device
) -> Block:
    lengths = [len(sequence.tokens) for sequence in ordered]
    shape = len(sizes), max(sizes), max(lengths)
    context_BC, seen_BC = None, torch.ones(1, 0, dtype=torch.bool, device=device)
    if contexts is not None:
        context_BC, seen_BC = spans_to_index(contexts, device)
    place_S = places(lengths, sizes, shape)
    return Block(
        start=start,
        stop=start + sum(lengths),
        shape=shape,
        place_S=None if place_S is None else torch.tensor(place_S, device=device),
        context_BC=context_BC,
        mask_BQL=mask_of(seen_BC, shape[1], shape[2]),
    )


def places(lengths: list[int], sizes: list[int], shape: tuple[int, int, int]) -> list[int] | None:
    """The place of each token of sequences that stand in B parts of K, or None if every place holds one."""
    if sum(lengths) == shape[0] * shape[1] * shape[2]:
        return None
    rows = [b * shape[1] + k for b, size in enumerate(sizes) for k in range(size)]
    return [row * shape[2] + t for row, length in zip(rows, lengths, strict=True) for t in range(length)]


def mask_of(seen_BC: Tensor, samples: int, length: int) -> Tensor:
    """What K sequences of T tokens may see of contexts, and of themselves; see ``Block``."""
    token = torch.arange(samples * length, device=seen_BC.device)
    own_QQ = (token[:, None] >= token) & (token[:, None] // length == token // length)
    if bool(seen_BC.all()):
        seen_BQL = own_QQ[None]
    else:
        queries = samples * length
        parts = (seen_BC[:, None].expand(-1, queries, -1), own_QQ[None].expand(len(seen_BC), -1, -1))
        seen_BQL = torch.cat(parts, dim=2)
    return torch.zeros(seen_BQL.shape, device=seen_BC.device).masked_fill_(~seen_BQL, -torch.inf)
