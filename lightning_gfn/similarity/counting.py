"""Counting different texts: which pairs are similar, and how many texts remain when similar ones count once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_gfn.similarity.rouge import Tokenizer, rouge_l_f1_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_EXACT = 12
"""Largest connected component whose orders are averaged exactly (texts)."""


def correct_only(completions: Sequence[str], correct: Sequence[bool]) -> list[str]:
    """The correct completions, in order.

    Args:
        completions: the samples of one problem.
        correct: whether each sample is correct.

    Returns:
        A list of texts.

    Raises:
        ValueError: if the lengths differ.
    """
    if len(completions) != len(correct):
        raise ValueError(f"correct: {len(correct)} verdicts for {len(completions)} completions")
    return [text for text, is_correct in zip(completions, correct, strict=True) if is_correct]


def require_threshold(threshold: float) -> float:
    """The threshold, or ValueError outside (0, 1]."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: must lie in (0, 1], not {threshold}")
    return threshold


def similarities(texts: Sequence[str], tokenizer: Tokenizer = "rouge") -> NDArray[np.float64]:
    """ROUGE-L F1 of every pair of texts, and 1 for equal ones, whatever the tokenizer makes of them.

    Args:
        texts: M texts; white space at their ends does not matter.
        tokenizer: what words are, see ``rouge_l_f1_matrix``.

    Returns:
        A symmetric (M, M) array in [0, 1].
    """
    scores = rouge_l_f1_matrix(texts, tokenizer)
    return np.where(same_texts(texts), 1.0, scores) if len(texts) else scores


def same_texts(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which pairs of texts are equal up to white space at their ends: an (M, M) bool array."""
    stripped = np.array([text.strip() for text in texts], dtype=object)
    return np.asarray(stripped[:, None] == stripped[None, :], dtype=np.bool_)


def similar_pairs(
    completions: Sequence[str], correct: Sequence[bool], threshold: float, tokenizer: Tokenizer = "rouge"
) -> NDArray[np.bool_]:
    """Which correct samples count as one solution: ROUGE-L F1 ≥ threshold, or the same text.

    Args:
        completions: the samples of one problem.
        correct: whether each sample is correct.
        threshold: in (0, 1].
        tokenizer: what words are, see ``rouge_l_f1_matrix``.

    Returns:
        A symmetric bool array over the correct samples.

    Raises:
        ValueError: if the lengths differ or the threshold is outside (0, 1].
    """
    texts = correct_only(completions, correct)
    return similarities(texts, tokenizer) >= require_threshold(threshold)


def leaders(similar: NDArray[np.bool_]) -> list[int]:
    """Greedy clusters in order: a text joins the first leader that it is similar to, or else becomes a leader.

    Args:
        similar: symmetric (M, M) bool array.

    Returns:
        The index of each text's leader; a leader's is its own.
    """
    found: list[int] = []
    kept: list[int] = []
    for text in range(len(similar)):
        home = next((leader for leader in kept if similar[text, leader]), text)
        if home == text:
            kept.append(text)
        found.append(home)
    return found


def distinct_in_order(similar: NDArray[np.bool_]) -> int:
    """Greedy count: keep each text that is similar to no kept one.

    Args:
        similar: symmetric (M, M) bool array.

    Returns:
        The number of kept texts.
    """
    return len(set(leaders(similar)))


def components(similar: NDArray[np.bool_]) -> list[list[int]]:
    """Connected components of the similarity graph.

    Args:
        similar: symmetric (M, M) bool array.

    Returns:
        Lists of text indices.
    """
    unseen = set(range(len(similar)))
    found: list[list[int]] = []
    while unseen:
        component = [unseen.pop()]
        for text in component:
            reached = unseen.intersection(np.flatnonzero(similar[text]).tolist())
            unseen -= reached
            component.extend(reached)
        found.append(sorted(component))
    return found


def expected_distinct(similar: NDArray[np.bool_], *, num_orders: int = 2000, seed: int = 0) -> float:
    """Mean of the greedy count over all orders; see ``functional.distinct_correct_expected``.

    Args:
        similar: symmetric (M, M) bool array.
        num_orders: random orders for a component of more than ``MAX_EXACT`` texts.
        seed: of those orders.

    Returns:
        The expected number of kept texts.
    """
    total = 0.0
    for component in components(similar):
        block = similar[np.ix_(component, component)]
        exact = len(component) <= MAX_EXACT
        total += _mean_over_all_orders(block) if exact else _mean_over_random_orders(block, num_orders, seed)
    return total


def _mean_over_all_orders(similar: NDArray[np.bool_]) -> float:
    """Dynamic programme over sets of texts that may still be kept; the first of them in a random order is uniform."""
    size = len(similar)
    removed = [sum(1 << other for other in range(size) if similar[text, other]) | 1 << text for text in range(size)]

    @cache
    def expectation(remaining: int) -> float:
        members = [text for text in range(size) if remaining >> text & 1]
        if not members:
            return 0.0
        return 1 + sum(expectation(remaining & ~removed[text]) for text in members) / len(members)

    return expectation((1 << size) - 1)


def _mean_over_random_orders(similar: NDArray[np.bool_], num_orders: int, seed: int) -> float:
    size = len(similar)
    generator = np.random.default_rng(seed)
    orders = generator.permuted(np.tile(np.arange(size), (num_orders, 1)), axis=1)
    blocked: NDArray[Any] = np.zeros((num_orders, size), dtype=bool)
    rows = np.arange(num_orders)
    kept = 0
    for position in range(size):
        text = orders[:, position]
        free = ~blocked[rows, text]
        kept += int(free.sum())
        blocked |= similar[text] & free[:, None]
        blocked[rows, text] = True
    return kept / num_orders
