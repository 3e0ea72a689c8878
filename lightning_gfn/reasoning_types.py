"""Plain data of evaluations that look into a policy's reasoning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Branch:
    """A greedy completion behind one of the most probable first tokens.

    Args:
        completion: its text.
        answer: the answer that it gives; None without one.
        correct: that answer is right.
        confidence: mean over the answer's tokens of p(most probable action) - p(second one); 0 without an answer.
    """

    completion: str
    answer: str | None
    correct: bool
    confidence: float
