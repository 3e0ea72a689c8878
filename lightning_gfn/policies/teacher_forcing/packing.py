"""Rows laid side by side without padding, what they share once, in the order in which attention reads them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from lightning_gfn.padding import unpadded
from lightning_gfn.policies.passes.beginnings import shared_beginning
from lightning_gfn.policies.teacher_forcing.tries import Place, Sequence, sequences_of
from lightning_gfn.types import StepBatch

Item = TypeVar("Item", bound=Hashable)

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
        sees_itself: the keys of the sequences are among those that they attend to.
    """

    start: int
    stop: int
    shape: tuple[int, int, int]
    place_S: Tensor | None
    context_BC: Tensor | None
    mask_BQL: Tensor
    sees_itself: bool = True


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


class Layout:
    """Positions and blocks laid out so far.

    Args:
        device: of the blocks' tensors.
        shared: tokens that all contexts begin with; they stand first.
    """

    def __init__(self, device: torch.device, shared: int = 0) -> None:
        self.device, self.shared = device, shared
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.blocks: list[Block] = []

    def add(
        self, sequences: list[Sequence], sizes: list[int], contexts: list[tuple[int, int]] | None, starts: list[int]
    ) -> None:
        """Add a block.

        Args:
            sequences: in parts that share a context.
            sizes: sequences of each part.
            contexts: first position and length of what each part's context adds to the shared beginning; None if the
                sequences are contexts themselves.
            starts: receives the first position of each sequence.
        """
        index_BC, seen_BC = None, torch.ones(1, 0, dtype=torch.bool, device=self.device)
        if contexts is not None:
            index_BC, seen_BC = spans_to_index(contexts, self.device, self.shared)
        self.blocks.append(_block(sequences, sizes, len(self.ids), index_BC, seen_BC))
        before = [0] * len(sizes) if contexts is None else [self.shared + length for _, length in contexts]
        part_of = [part for part, size in enumerate(sizes) for _ in range(size)]
        for sequence, part in zip(sequences, part_of, strict=True):
            starts[sequence.row] = len(self.ids)
            self.ids += sequence.tokens
            self.positions += [before[part] + depth for depth in sequence.depths()]


def pack(steps: StepBatch) -> Packing:
    """Lay out steps so that what rows have in common is read once and no position is padding.

    Contexts that begin alike share their beginning, rows with equal contexts the context, equal actions behind one
    everything.

    Args:
        steps: contexts and actions.

    Returns:
        the layout, on the device of the steps.
    """
    number, passage_N = distinct(unpadded(steps.context_ids_NC, steps.context_mask_NC))
    rows = zip(passage_N, unpadded(steps.action_ids_NT, steps.action_mask_NT), strict=True)
    actions, action_N = distinct(rows)
    sequences, place_of = sequences_of(actions)
    layout = Layout(steps.context_ids_NC.device, shared_beginning(number))
    starts = [0] * len(sequences)
    spans_P = lay_out_contexts(layout, number)
    for group in grouped([sequence for sequence in sequences if sequence.tokens]):
        ordered, sizes = by_context(group)
        firsts = itertools.accumulate(sizes[:-1], initial=0)
        layout.add(ordered, sizes, [spans_P[ordered[first].passage] for first in firsts], starts)
    read_NT = read_at([place_of[action] for action in action_N], starts, steps.action_ids_NT.shape[1], layout.device)
    return as_tensors(layout, spans_P, read_NT, passage_N)


def lay_out_contexts(layout: Layout, contexts: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Add different contexts, their shared beginning first.

    Args:
        layout: empty.
        contexts: tokens of each.

    Returns:
        First position and length of what each context adds to the beginning.
    """
    shared, starts = layout.shared, [0] * len(contexts)
    if shared:
        layout.add([Sequence(0, 0, contexts[0][:shared])], [1], None, [0])
    for group in grouped([Sequence(row, 0 if shared else row, tokens[shared:]) for row, tokens in enumerate(contexts)]):
        ordered, sizes = by_context(group)
        layout.add(ordered, sizes, [(0, 0)] * len(sizes) if shared else None, starts)
    return [(start, len(tokens) - shared) for start, tokens in zip(starts, contexts, strict=True)]


def as_tensors(layout: Layout, spans_P: list[tuple[int, int]], read_NT: Tensor, passage_N: list[int]) -> Packing:
    """The layout, and where prefixes and contexts are read in it.

    Args:
        layout: all blocks.
        spans_P: first position and length of what each context adds to the shared beginning.
        read_NT: position of each token of each action.
        passage_N: the context of each step.
    """
    device = layout.device
    context_PC, mask_PC = spans_to_index(spans_P, device, layout.shared)
    last_context_N = torch.tensor([sum(spans_P[passage]) - 1 for passage in passage_N], device=device)
    return Packing(
        ids_S=torch.tensor(layout.ids, device=device),
        position_S=torch.tensor(layout.positions, device=device),
        blocks=layout.blocks,
        flat_NT1=torch.cat([last_context_N[:, None], read_NT.clamp_max(len(layout.ids) - 1)], dim=1),
        context_PC=context_PC,
        context_mask_PC=mask_PC,
        passage_N=torch.tensor(passage_N, device=device),
        num_positions=max(layout.positions) + 1,
    )


def read_at(places: Iterable[Place], starts: list[int], width: int, device: torch.device) -> Tensor:
    """Position of each token of each action, (N, T); arbitrary beyond its last one.

    Args:
        places: of the N actions.
        starts: first position of each sequence.
        width: T.
        device: of the result.
    """
    chosen = list(places)
    read_NT = torch.tensor([starts[place.row] for place in chosen])[:, None] + torch.arange(width)
    in_trees = [n for n, place in enumerate(chosen) if place.nodes is not None]
    if in_trees:
        nodes = [[*(nodes := chosen[n].nodes or ()), *[0] * (width - len(nodes))] for n in in_trees]
        firsts_M1 = torch.tensor([[starts[chosen[n].row]] for n in in_trees])
        read_NT[in_trees] = firsts_M1 + torch.tensor(nodes, dtype=torch.int64).reshape(len(in_trees), width)
    return read_NT.to(device)


def distinct(items: Iterable[Item]) -> tuple[list[Item], list[int]]:
    """Different items in order of their first place, and the number of each item among them."""
    number: dict[Item, int] = {}
    number_N = [number.setdefault(item, len(number)) for item in items]
    return list(number), number_N


def grouped(sequences: list[Sequence]) -> list[list[Sequence]]:
    """Sequences of like lengths together, shortest first."""
    groups: list[list[Sequence]] = []
    for sequence in sorted(sequences, key=lambda s: len(s.tokens)):
        length = len(sequence.tokens)
        if groups and length <= max(SHORTEST, int(GROWTH * len(groups[-1][0].tokens))):
            groups[-1].append(sequence)
        else:
            groups.append([sequence])
    return groups


def by_context(sequences: list[Sequence], together: int | None = TOGETHER) -> tuple[list[Sequence], list[int]]:
    """Sequences of one context side by side, in parts of at most the mean number, so that little is padding.

    Args:
        sequences: the longest one last.
        together: tokens of a part at most, unless one sequence has more; None for no limit.

    Returns:
        the sequences, and the size of each part.
    """
    of_passage: dict[int, list[Sequence]] = defaultdict(list)
    for sequence in sequences:
        of_passage[sequence.passage].append(sequence)
    most = -(-len(sequences) // len(of_passage))
    if together is not None:
        most = min(most, max(1, together // len(sequences[-1].tokens)))
    ordered: list[Sequence] = []
    sizes = []
    for members in of_passage.values():
        for start in range(0, len(members), most):
            part = members[start : start + most]
            ordered += part
            sizes.append(len(part))
    return ordered, sizes


def spans_to_index(spans: list[tuple[int, int]], device: torch.device, shared: int = 0) -> tuple[Tensor, Tensor]:
    """Positions 0, …, shared - 1 and those of a (start, length) span, padded on the right, and their mask.

    Args:
        spans: of each row.
        device: of the result.
        shared: positions that all rows have before their span.
    """
    starts, lengths = torch.tensor(spans, device=device).T
    column = torch.arange(shared + int(lengths.max()), device=device)
    mask = column < (shared + lengths)[:, None]
    own = starts[:, None] + torch.minimum(column - shared, lengths[:, None] - 1)
    return torch.where(column < shared, column, own), mask


def _block(ordered: list[Sequence], sizes: list[int], start: int, index_BC: Tensor | None, seen_BC: Tensor) -> Block:
    lengths = [len(sequence.tokens) for sequence in ordered]
    shape = len(sizes), max(sizes), max(lengths)
    place_S = places(lengths, sizes, shape)
    return Block(
        start=start,
        stop=start + sum(lengths),
        shape=shape,
        place_S=None if place_S is None else torch.tensor(place_S, device=seen_BC.device),
        context_BC=index_BC,
        mask_BQL=mask_of(seen_BC, own_mask(ordered, sizes, shape).to(seen_BC.device)),
    )


def own_mask(ordered: list[Sequence], sizes: list[int], shape: tuple[int, int, int]) -> Tensor:
    """What the K · T places of each of B parts see of one another, (B, Q, Q) bool, or (1, Q, Q) where all are alike."""
    own_1QQ = side_by_side(shape[1], shape[2])[None]
    if all(sequence.parents is None for sequence in ordered):
        return own_1QQ
    own_BQQ = own_1QQ.repeat(shape[0], 1, 1)
    firsts = itertools.accumulate(sizes[:-1], initial=0)
    for b, first in enumerate(firsts):
        if (tree := ordered[first]).parents is not None:
            size = len(tree.tokens)
            own_BQQ[b, :size, :size] = tree.ancestors()
    return own_BQQ


def side_by_side(samples: int, length: int) -> Tensor:
    """What K sequences of T tokens each see of one another, (K · T, K · T) bool: their own tokens up to each."""
    token = torch.arange(samples * length)
    return (token[:, None] >= token) & (token[:, None] // length == token // length)


def places(lengths: list[int], sizes: list[int], shape: tuple[int, int, int]) -> list[int] | None:
    """The place of each token of sequences that stand in B parts of K, or None if every place holds one."""
    if sum(lengths) == shape[0] * shape[1] * shape[2]:
        return None
    rows = [b * shape[1] + k for b, size in enumerate(sizes) for k in range(size)]
    return [row * shape[2] + t for row, length in zip(rows, lengths, strict=True) for t in range(length)]


def mask_of(seen_BC: Tensor, own_BQQ: Tensor) -> Tensor:
    """What places may see of contexts, and of themselves; see ``Block``."""
    if bool(seen_BC.all()):
        seen_BQL = own_BQQ
    else:
        seen = seen_BC[:, None].expand(-1, own_BQQ.shape[1], -1)
        seen_BQL = torch.cat((seen, own_BQQ.expand(len(seen_BC), -1, -1)), dim=2)
    return torch.zeros(seen_BQL.shape, device=seen_BC.device).masked_fill_(~seen_BQL, -torch.inf)
