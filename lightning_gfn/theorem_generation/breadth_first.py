"""A small breadth-first search for proofs, in Lean itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lightning_gfn.lean_interfaces import LeanBackend
from lightning_gfn.lean_types import LeanError, ProofFinished, TacticState, Theorem

Propose = Callable[[str, int], Iterable[str]]
"""Tactics to try on the text of a state, so many tactics after the start."""


@dataclass
class Node:
    """A state that the search has met, and how."""

    state: TacticState
    depth: int
    ways: list[tuple[Node, str]] = field(default_factory=list)


def search(
    backend: LeanBackend, theorem: Theorem, propose: Propose, *, tries: int = 150, depth: int = 4, enough: int = 8
) -> list[tuple[str, ...]]:
    """Scripts that close a theorem, shortest first; empty if none was found.

    Args:
        backend: runs the tactics.
        theorem: what to prove.
        propose: names tactics for a state.
        tries: tactics run in all.
        depth: of the longest script.
        enough: stop at so many scripts.
    """
    start = backend.start(theorem)
    if not isinstance(start, TacticState):
        return []
    root = Node(start, 0)
    nodes, queue = {start.goals: root}, [root]
    found: list[tuple[str, ...]] = []
    for node in queue:
        for tactic in dict.fromkeys(propose(node.state.text, node.depth)):
            if tries == 0 or len(found) >= enough:
                break
            tries -= 1
            result = backend.run_tac(node.state, tactic)
            if isinstance(result, ProofFinished):
                found.extend((*way, tactic) for way in scripts(node))
            elif not isinstance(result, LeanError) and node.depth + 1 < depth:
                reached = nodes.get(result.goals)
                if reached is None:
                    reached = nodes[result.goals] = Node(result, node.depth + 1)
                    queue.append(reached)
                if reached.depth == node.depth + 1:
                    reached.ways.append((node, tactic))
    backend.release([node.state for node in queue])
    return sorted(dict.fromkeys(found), key=len)


def scripts(node: Node) -> Iterator[tuple[str, ...]]:
    """The scripts that lead to a node."""
    if not node.depth:
        yield ()
    for before, tactic in node.ways:
        for way in scripts(before):
            yield (*way, tactic)


def merged(script: tuple[str, ...]) -> tuple[str, ...]:
    """The script with neighbouring ``rw`` taken together."""
    out: list[str] = []
    for tactic in script:
        if out and tactic.startswith("rw [") and out[-1].startswith("rw [") and " at " not in tactic + out[-1]:
            out[-1] = f"{out[-1][:-1]}, {tactic[4:]}"
        else:
            out.append(tactic)
    return tuple(out)


def replay(backend: LeanBackend, theorem: Theorem, script: tuple[str, ...]) -> list[str] | None:
    """The states before each tactic of a script and ``no goals``; None unless just the last tactic ends the proof."""
    state = backend.start(theorem)
    texts: list[str] = []
    for number, tactic in enumerate(script, start=1):
        if not isinstance(state, TacticState):
            return None
        texts.append(state.text)
        result = backend.run_tac(state, tactic)
        backend.release([state])
        if isinstance(result, LeanError) or isinstance(result, ProofFinished) != (number == len(script)):
            return None
        if isinstance(result, TacticState):
            state = result
    return texts
