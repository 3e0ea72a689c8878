"""A mixture of experts sampled at a temperature, letter by letter, as a perfect imitator of them would be."""

from __future__ import annotations

import math
from collections.abc import Mapping

END = ""
"""Stands for the end of a completion among its letters."""


def tempered_by_letter(mixture: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Distribution of completions where each next letter, or the end, is drawn from p(letter | prefix)^(1/τ).

        q(y) = Π_t p(y_t | y_<t)^(1/τ) / Σ_v p(v | y_<t)^(1/τ)

    At τ = 1 it is the mixture. Below, whole completions do not compete, letters do: at τ → 0 the greedy completion is
    left, which need not be the most probable one; equally probable letters share.

    Args:
        mixture: probability of each completion; those of 0 are left out.
        temperature: τ, above 0.

    Raises:
        ValueError: τ or a probability is out of range, or there is no mass.
    """
    if temperature <= 0.0:
        raise ValueError(f"tempered_by_letter: temperature={temperature} must be above 0")
    if any(p < 0.0 for p in mixture.values()) or not any(mixture.values()):
        raise ValueError("tempered_by_letter: mixture must hold probabilities of at least 0, one of them above")
    found: dict[str, float] = {}
    pending = [("", {text: p for text, p in mixture.items() if p > 0.0}, 1.0)]
    while pending:
        prefix, texts, reached = pending.pop()
        by_letter: dict[str, dict[str, float]] = {}
        for text, p in texts.items():
            letter = text[len(prefix)] if len(text) > len(prefix) else END
            by_letter.setdefault(letter, {})[text] = p
        logs = {letter: math.log(math.fsum(below.values())) / temperature for letter, below in by_letter.items()}
        largest = max(logs.values())
        total = math.fsum(math.exp(value - largest) for value in logs.values())
        for letter, below in by_letter.items():
            share = reached * math.exp(logs[letter] - largest) / total
            if letter == END:
                found[prefix] = share
            elif share > 0.0:
                pending.append((prefix + letter, below, share))
    return found
