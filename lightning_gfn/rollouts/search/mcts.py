"""Monte Carlo tree search for proofs: PUCT with the policy's prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lightning_gfn.rollouts.search.search_tree import Key, Leaf, LeafValue, SearchTree, TacticResult, TreeSearch

Backup = Literal["mean", "max"]


def puct(value: float, prior: float, parent_visits: float, visits: float, exploration: float) -> float:
    """The upper bound by which an edge is chosen.

        Q + c · P · √N / (1 + n)

    Args:
        value: Q, value of the edge.
        prior: P, probability of the edge's tactic.
        parent_visits: N, visits of the state.
        visits: n, visits of the edge.
        exploration: c.

    Source: Silver et al. 2017, Nature 550, methods (AlphaGo Zero).
    """
    return value + exploration * prior * math.sqrt(parent_visits) / (1.0 + visits)


@dataclass(frozen=True)
class MCTS(TreeSearch):
    """Walks from the root along the edges of largest ``puct`` to a state that is not expanded yet, and expands it.

    All proposed tactics of a state are run when it is expanded: edges that fail are closed at once, a proof is found at
    once, and a state all of whose edges are closed closes the edge to it. The value of the expanded state is added to
    every edge of the walk. A walk that runs into itself is closed as well.

    Args:
        exploration: c of ``puct``.
        value: of an expanded state, 0 to 1; 0 if None.
        backup: the value of an edge is the ``mean`` of what was backed up through it, or the ``max``.
        parallel: states selected before the first is expanded, for larger batches; until then each leaves a virtual
            loss (a visit of value 0) on its walk.
        prior_temperature: the prior is q^(1/temperature), normalised over the proposals.
        first_play: value of an edge that was never walked.
        transposition: states with equal goals are one node, expanded once with the tactics of the first way to it in
            the prompt; edges keep their own visits and values.

    Raises:
        ValueError: if a number is out of range.

    Source: Silver et al. 2017; Lample et al. 2022, arXiv:2205.11491 (all tactics of a state run on expansion).
    """

    exploration: float = 1.0
    value: LeafValue | None = None
    backup: Backup = "mean"
    parallel: int = 1
    prior_temperature: float = 1.0
    first_play: float = 0.0
    transposition: bool = True

    def __post_init__(self) -> None:
        if self.backup not in ("mean", "max"):
            raise ValueError(f"search.backup={self.backup!r} must be mean or max")
        if self.exploration < 0 or self.parallel < 1 or self.prior_temperature <= 0:
            raise ValueError(
                f"search.exploration={self.exploration} must be at least 0, parallel={self.parallel} at least 1, "
                f"prior_temperature={self.prior_temperature} above 0"
            )

    def tree(self, root: Leaf, max_depth: int) -> SearchTree:
        """A tree that holds the root."""
        return MCTSTree(root, self, max_depth)


@dataclass(eq=False)
class Edge:
    """A tactic that can be walked.

    Args:
        prior: probability among the proposals.
        child: where it leads.
        visits: walks through it that were backed up.
        total: sum of what was backed up.
        best: the largest of it.
        virtual: walks through it that are under way.
    """

    prior: float
    child: TreeNode
    visits: int = 0
    total: float = 0.0
    best: float = 0.0
    virtual: int = 0

    def value(self, backup: Backup, first_play: float) -> float:
        """Q; walks under way count as visits of value 0 in the mean."""
        if self.visits + self.virtual == 0:
            return first_play
        return self.best if backup == "max" else self.total / (self.visits + self.virtual)


@dataclass(eq=False)
class TreeNode:
    """A state of the tree; ``edges`` is None until it is expanded, and then holds those that are not closed."""

    leaf: Leaf
    edges: list[Edge] | None = None
    visits: int = 0
    virtual: int = 0
    selected: bool = False

    @property
    def is_closed(self) -> bool:
        """Nothing is left to do below."""
        return self.edges is not None and not self.edges


@dataclass(eq=False)
class _Walk:
    """The nodes from the root to the one that was selected, and the edges between them."""

    nodes: list[TreeNode]
    edges: list[Edge]


class MCTSTree(SearchTree):
    """The tree of one theorem."""

    def __init__(self, root: Leaf, settings: MCTS, max_depth: int) -> None:
        super().__init__(root, max_depth=max_depth, transposition=settings.transposition)
        self.settings = settings
        self.root = TreeNode(root)
        self._nodes: dict[Key, TreeNode] = {self.key(root): self.root}
        self._walks: dict[int, _Walk] = {}

    def select(self, limit: int) -> list[Leaf]:
        """Up to ``parallel`` states; fewer if the walks meet in one that is selected already."""
        chosen: list[Leaf] = []
        while len(chosen) < min(limit, self.settings.parallel):
            walk = self._walk()
            if walk is None:
                break
            walk.nodes[-1].selected = True
            for node in walk.nodes:
                node.virtual += 1
            for edge in walk.edges:
                edge.virtual += 1
            leaf = walk.nodes[-1].leaf
            self._walks[id(leaf)] = walk
            chosen.append(leaf)
        return chosen

    def absorb(self, leaf: Leaf, tried: Sequence[TacticResult], value: float) -> None:
        """Expand the node, and back its value up; a proof is worth 1, a state without a way on 0."""
        walk = self._walks.pop(id(leaf))
        walk.nodes[-1].edges = self._edges(leaf, tried)
        if any(found.is_proof for found in tried):
            value = 1.0
        elif walk.nodes[-1].is_closed:
            value = 0.0
        for node in walk.nodes:
            node.visits += 1
            node.virtual -= 1
        for edge in walk.edges:
            edge.virtual -= 1
            edge.best = value if edge.visits == 0 else max(edge.best, value)
            edge.visits += 1
            edge.total += value

    def score(self, node: TreeNode, edge: Edge) -> float:
        """``puct`` of an edge; walks under way count as visits."""
        settings = self.settings
        return puct(
            edge.value(settings.backup, settings.first_play),
            edge.prior,
            node.visits + node.virtual,
            edge.visits + edge.virtual,
            settings.exploration,
        )

    def _edges(self, leaf: Leaf, tried: Sequence[TacticResult]) -> list[Edge]:
        """The edges that lead on; priors are normalised over all proposals, failed ones included."""
        if not tried:
            return []
        scaled = [found.proposal.log_prob / self.settings.prior_temperature for found in tried]
        top = max(scaled)
        total = math.fsum(math.exp(value - top) for value in scaled)
        edges = []
        for found, value in zip(tried, scaled, strict=True):
            if found.state is None:
                continue
            self.seen.add(found.state.goals)
            child = leaf.child(found.proposal, found.state)
            if child.depth < self.max_depth:
                node = self._nodes.setdefault(self.key(child), TreeNode(child))
                edges.append(Edge(math.exp(value - top) / total, node))
        return edges

    def _walk(self) -> _Walk | None:
        """The next walk; None if everything is closed, or if it would end where another one is under way."""
        while not self.root.is_closed:
            walk = _Walk([self.root], [])
            on_way = {id(self.root)}
            while walk.nodes[-1].edges:
                node = walk.nodes[-1]
                edge = max(node.edges, key=lambda edge: self.score(node, edge))  # type: ignore[arg-type]
                if id(edge.child) in on_way or edge.child.is_closed:
                    node.edges.remove(edge)  # type: ignore[union-attr]
                    break
                walk.nodes.append(edge.child)
                walk.edges.append(edge)
                on_way.add(id(edge.child))
            else:
                return None if walk.nodes[-1].selected and walk.nodes[-1].edges is None else walk
        return None
