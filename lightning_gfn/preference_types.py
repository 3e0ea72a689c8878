"""What is learned from instead of problems: preferences and judged solutions, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preference:
    """Two completions of one prompt, the first preferred.

    Args:
        id: stable and unique within its file; the training order is keyed by it.
        prompt: the text that the policy continues.
        chosen: the preferred completion.
        rejected: the other one.
    """

    id: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class LabelledCompletion:
    """A completion that is desirable or not.

    Args:
        id: stable and unique within its file; the training order is keyed by it.
        prompt: the text that the policy continues.
        completion: the text that is judged.
        label: True if it is desirable (correct).
        unrelated: a completion of another prompt, from which KTO estimates how far the policy has moved; None if
            nobody asks.
    """

    id: str
    prompt: str
    completion: str
    label: bool
    unrelated: str | None = None


@dataclass(frozen=True)
class JudgedSolution:
    """One attempt at a problem that was judged, as a whole or step by step.

    Args:
        id: stable and unique within its data set; the training order is keyed by it.
        prompt: the text that the attempt follows.
        steps: the attempt; joined the steps are the completion.
        labels: for each step, whether the attempt is good up to its end (0 or 1, or the share of completions from there
            that succeeded); None where nobody judged. A judgement of the whole stands at the last step.
    """

    id: str
    prompt: str
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]


@dataclass(frozen=True)
class Judgement:
    """What a reward model says where a label is known.

    Args:
        id: of the attempt, or of the pair.
        step: which step; of a pair, 0 for the order of the data and 1 for the other one.
        log_odds: logit of the predicted probability that the label is 1.
        label: 0 to 1.
    """

    id: str
    step: int
    log_odds: float
    label: float
