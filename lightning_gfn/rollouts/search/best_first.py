"""Best-first search: the most probable state is expanded next."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_gfn.rollouts.search.search_tree import Key, Leaf, SearchTree, TacticResult, TreeSearch


@dataclass(frozen=True)
class BestFirst(TreeSearch):
    """Expands the most probable state that is left.

        priority(s) = Σ log q(tactic | state, tactics before)    over the tactics that led to s

    A state that is reached on two ways keeps the more probable one. Priorities never rise along a path, so that a
    state is expanded on its best way: no later one can be better.

    Args:
        transposition: states with equal goals are one node. A prompt that shows the tactics so far then shows those of
            the best way alone; off, equal states on different ways are expanded each with its own prompt.

    Source: Yang et al. 2023, arXiv:2306.15626, section 5.
    """

    transposition: bool = True

    def tree(self, root: Leaf, max_depth: int) -> SearchTree:
        """A frontier that holds the root."""
        return BestFirstTree(root, max_depth=max_depth, transposition=self.transposition)


class BestFirstTree(SearchTree):
    """The frontier of a best-first search; it selects one state at a time."""

    def __init__(self, root: Leaf, *, max_depth: int, transposition: bool) -> None:
        super().__init__(root, max_depth=max_depth, transposition=transposition)
        self._best: dict[Key, Leaf] = {}
        self._expanded: set[Key] = set()
        self._heap: list[tuple[float, int, Leaf]] = []
        self._count = 0
        self._offer(root)

    def select(self, limit: int) -> list[Leaf]:
        """The most probable state; of equally probable ones the first reached."""
        while self._heap and limit > 0:
            _, _, leaf = heapq.heappop(self._heap)
            key = self.key(leaf)
            if self._best[key] is leaf and key not in self._expanded:
                self._expanded.add(key)
                return [leaf]
        return []

    def absorb(self, leaf: Leaf, tried: Sequence[TacticResult], value: float) -> None:
        """Put the states that were reached into the frontier."""
        for found in tried:
            if found.state is not None:
                self.seen.add(found.state.goals)
                self._offer(leaf.child(found.proposal, found.state))

    def _offer(self, leaf: Leaf) -> None:
        key = self.key(leaf)
        known = self._best.get(key)
        is_worse = known is not None and known.log_prob >= leaf.log_prob
        if leaf.depth >= self.max_depth or key in self._expanded or is_worse:
            return
        self._best[key] = leaf
        heapq.heappush(self._heap, (-leaf.log_prob, self._count, leaf))
        self._count += 1
