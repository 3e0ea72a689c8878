"""Actions behind one context as a tree of their tokens, so that what they begin with is read once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_NODES = 256
"""Larger trees would see themselves through masks that cost more than they save."""
LEAST_SAVED = 0.15
"""Share of the tokens that a tree must save; below it, rows are read one by one, in parts that see only themselves."""


@dataclass(frozen=True)
class Sequence:
    """Tokens that follow a context, in a row or as a tree.

    Args:
        row: its number; of a context the number of that, else that of an action or tree.
        passage: the context.
        tokens: of a tree those of its nodes, parents first.
        parents: of each node, -1 at the root; None for tokens in a row.
    """

    row: int
    passage: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...] | None = None

    def depths(self) -> list[int]:
        """Tokens of the row that stand before each one."""
        if self.parents is None:
            return list(range(len(self.tokens)))
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def ancestors(self) -> Tensor:
        """(Q, Q) bool, True where token j stands before token i in a row, or is it."""
        size = len(self.tokens)
        seen = torch.eye(size, dtype=torch.bool)
        if self.parents is None:
            return seen.new_ones(size, size).tril_()
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


@dataclass(frozen=True)
class Place:
    """Where an action stands.

    Args:
        row: of its sequence.
        nodes: the places of its tokens in it; None for all of them in turn.
    """

    row: int
    nodes: tuple[int, ...] | None = None


def sequences_of(actions: Rows[tuple[int, tuple[int, ...]]]) -> tuple[list[Sequence], list[Place]]:
    """The actions as sequences, those of one context as a tree where that saves enough.

    Args:
        actions: different (context, tokens) pairs.

    Returns:
        Sequences, numbered, and the place of each action.
    """
    of_passage: dict[int, list[int]] = defaultdict(list)
    for number, (passage, _) in enumerate(actions):
        of_passage[passage].append(number)
    sequences: list[Sequence] = []
    places: dict[int, Place] = {}
    for passage, numbers in of_passage.items():
        rows = [actions[number][1] for number in numbers]
        tree = tree_of(rows)
        if tree is not None:
            tokens, parents, nodes = tree
            places |= {n: Place(len(sequences), path) for n, path in zip(numbers, nodes, strict=True)}
            sequences.append(Sequence(len(sequences), passage, tokens, parents))
            continue
        for number, row in zip(numbers, rows, strict=True):
            places[number] = Place(len(sequences))
            sequences.append(Sequence(len(sequences), passage, row))
    return sequences, [places[number] for number in range(len(actions))]


Tree = tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, ...]]]


def tree_of(rows: Rows[tuple[int, ...]]) -> Tree | None:
    """Tokens and parents of the nodes, and the nodes of each row; None if a tree is too large or saves too little."""
    total = sum(map(len, rows))
    most = min(MOST_NODES, int(total * (1.0 - LEAST_SAVED)))
    children: dict[tuple[int, int], int] = {}
    parents: list[int] = []
    nodes: list[tuple[int, ...]] = []
    for row in rows:
        node, path = -1, []
        for token in row:
            known = len(children)
            at = children.setdefault((node, token), known)
            if at == known:
                if known >= most:
                    return None
                parents.append(node)
            node = at
            path.append(at)
        nodes.append(tuple(path))
    return tuple(token for _, token in children), tuple(parents), nodes
