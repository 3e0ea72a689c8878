"""What contexts have in common before they differ: instructions, a chat template, solved examples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

LEAST_SHARED = 16
"""Tokens of a common beginning from which on it is read once for all contexts."""


def shared_beginning(contexts: Sequence[Sequence[int]]) -> int:
    """Tokens that all of several different contexts begin with, to be read once; 0 if that is not worth it.

    Every context keeps a token of its own.

    Args:
        contexts: token ids without padding.
    """
    if len(contexts) < 2:
        return 0
    # Of rows in order, what the first and the last share all share.
    first, last = min(contexts, key=tuple), max(contexts, key=tuple)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    shared = min(shared, min(map(len, contexts)) - 1)
    return shared if shared >= LEAST_SHARED else 0
