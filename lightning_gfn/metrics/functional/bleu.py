"""N-grams of several texts: how much each repeats those of the others (self-BLEU), how many differ (distinct-n)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDER = 4
"""Longest n-grams that count."""
EPSILON = 0.1
"""Matches that an order without any match is given (Chen and Cherry's first smoothing)."""

_TOKEN = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[^\sa-z\d]")
_Grams = Counter[tuple[str, ...]]


def bleu_tokens(text: str) -> list[str]:
    """Lower-case words, numbers, and every other visible character by itself, operators included."""
    return _TOKEN.findall(text.lower())


def self_bleu(texts: Sequence[str]) -> NDArray[np.float64]:
    """BLEU of each text with all other texts as its references.

        BLEU = BP · exp(1/4 Σ_{n ≤ 4} log p_n),   BP = min(1, exp(1 - r / c))

    p_n is the clipped precision of n-grams, c the length of the text and r that of the reference closest to it (the
    shorter of two equally close ones). An order without a match counts as 0.1 matches; a text without any common word
    scores 0.

    Args:
        texts: M texts.

    Returns:
        (M,) values in [0, 1]; zeros where there are no other texts.

    Source: Papineni et al. 2002 (BLEU); Chen and Cherry 2014, smoothing 1; Zhu et al. 2018, arXiv:1802.01886
    (self-BLEU).
    """
    tokens = [bleu_tokens(text) for text in texts]
    scores = np.zeros(len(texts))
    if len(texts) < 2:
        return scores
    precisions = [_precisions([_grams(words, order) for words in tokens]) for order in range(1, ORDER + 1)]
    lengths = [len(words) for words in tokens]
    for i, length in enumerate(lengths):
        matches = [found[i] for found in precisions]
        if matches[0][0] == 0:
            continue
        others = lengths[:i] + lengths[i + 1 :]
        closest = min(others, key=lambda other: (abs(other - length), other))
        logs = [math.log((matched if matched else EPSILON) / total) for matched, total in matches]
        scores[i] = math.exp(min(0.0, 1 - closest / length) + math.fsum(logs) / ORDER)
    return scores


def distinct_ngrams(texts: Sequence[str], order: int) -> float:
    """Different n-grams of all texts together, over the number of n-grams that they have.

        distinct-n = |∪_i G_i| / Σ_i |G_i|,      G_i: the n-grams of text i, each as often as it stands there

    Args:
        texts: M texts.
        order: n, at least 1.

    Returns:
        A number in (0, 1]; NaN if no text is as long as n.

    Source: Li et al. 2016, arXiv:1510.03055, section 5.
    """
    counts = [_grams(bleu_tokens(text), order) for text in texts]
    total = sum(sum(grams.values()) for grams in counts)
    return len(set().union(*counts)) / total if total else math.nan


def _grams(words: Sequence[str], order: int) -> _Grams:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _precisions(counts: Sequence[_Grams]) -> list[tuple[int, int]]:
    """Clipped matches and number of n-grams (at least 1) of each text against all others."""
    # The most that one text can lend another: the largest count, or the second largest where it is the text's own.
    largest: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for owner, grams in enumerate(counts):
        for gram, count in grams.items():
            first, second, holder = largest.get(gram, (0, 0, -1))
            largest[gram] = (count, first, owner) if count > first else (first, max(second, count), holder)
    found = []
    for owner, grams in enumerate(counts):
        matched = 0
        for gram, count in grams.items():
            first, second, holder = largest[gram]
            matched += min(count, second if holder == owner else first)
        found.append((matched, max(1, sum(grams.values()))))
    return found
