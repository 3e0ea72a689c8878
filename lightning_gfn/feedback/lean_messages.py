"""What Lean said of an attempt at a theorem, for a teacher to read."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.interfaces import Policy
from lightning_gfn.prompts.lean_feedback import LeanWords
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.types import Feedback, Rollouts


class LeanFeedback(FeedbackSource):
    """What Lean said of each attempt, in the words of ``proofs.LeanWords``.

    Args:
        strength: in [0, 1]: from whether the attempt is a proof (0) to the failure, Lean's message, the state and a
            known proof (1).
        on_proved: also say of proofs that they are; otherwise they get no feedback.
        max_chars: of a message or state; the rest is cut.

    Raises:
        ValueError: a number is out of range.

    Source: compiler output as feedback, Feedback Distillation, arXiv:2605.30861.
    """

    def __init__(self, *, strength: float = 0.5, on_proved: bool = True, max_chars: int = 300) -> None:
        self.words = LeanWords(strength, max_chars)
        self.on_proved = on_proved

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """One text an attempt.

        Args:
            rollouts: attempts with episodes.
            policy: not asked.
            chosen: which of them.

        Raises:
            ValueError: an attempt has no episode.
        """
        texts: list[str | None] = []
        for b in chosen:
            episode = rollouts.episodes[b] if rollouts.episodes is not None else None
            theorem = rollouts.problem_of(b).theorem
            if episode is None or theorem is None:
                raise ValueError("LeanFeedback speaks of attempts at theorems: set model.proving.environment")
            wanted = self.on_proved or episode.outcome != "proved"
            texts.append(self.words(theorem, episode) if wanted else None)
        return Feedback(tuple(texts), {"without_message": texts.count(None)})
