"""The answer that chain-of-thought decoding chooses among branches."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.answers import canonical_answer
from lightning_gfn.types import Branch


def chosen_branch(branches: Sequence[Branch]) -> Branch | None:
    """The most confident branch of the answer that has the most confidence over all branches; None without answers.

        a* = argmax_a Σ_{k: answer of branch k is a} Δ_k

    Answers are the same if their canonical forms are; of equal sums the first answer in the order of branches wins.

    Args:
        branches: of one problem.

    Source: Wang & Zhou 2024, arXiv:2402.10200, section 2.3 (weighted aggregation).
    """
    groups: dict[str, list[Branch]] = {}
    for branch in branches:
        if branch.answer is not None:
            groups.setdefault(canonical_answer(branch.answer), []).append(branch)
    if not groups:
        return None
    best = max(groups.values(), key=lambda group: sum(branch.confidence for branch in group))
    return max(best, key=lambda branch: branch.confidence)
