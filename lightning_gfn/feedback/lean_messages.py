"""What Lean said of an attempt at a theorem, as strong as asked."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.answers.hints import check_strength
from lightning_gfn.interfaces import Policy
from lightning_gfn.proofs import Episode, ErrorKind, Theorem
from lightning_gfn.teaching import FeedbackSource
from lightning_gfn.types import Feedback, Rollouts

KIND, MESSAGE, STATE, PROOF = 0.25, 0.5, 0.75, 1.0
"""From these strengths on, feedback also names the tactic and the kind of its error, what Lean said, the state in
which it was said, and a known proof."""

KINDS: dict[ErrorKind, str] = {
    "tactic": "failed",
    "forbidden": "is not allowed",
    "timeout": "took too long",
    "unsound": "did not survive the check",
    "fault": "broke Lean",
    "statement": "could not be run",
}


class LeanFeedback(FeedbackSource):
    """What Lean said of the tactic that failed, or the goals that were left.

        strength ≥ 0     whether the attempt is a proof
        strength ≥ 0.25  and which tactic failed in what way          (errors)
        strength ≥ 0.5   and Lean's message                           (errors), the goals left   (unfinished)
        strength ≥ 0.75  and the state in which the tactic failed     (errors)
        strength = 1     and the first known proof

    What is not known is left out.

    Args:
        strength: in [0, 1].
        on_proved: also say of proofs that they are; otherwise they get no feedback.
        max_chars: of a message or state; the rest is cut.

    Raises:
        ValueError: a number is out of range.

    Source: compiler output as feedback, Feedback Distillation, arXiv:2605.30861.
    """

    def __init__(self, *, strength: float = 0.5, on_proved: bool = True, max_chars: int = 300) -> None:
        check_strength(strength)
        if max_chars < 1:
            raise ValueError(f"max_chars is {max_chars}, expected at least 1")
        self.strength, self.on_proved, self.max_chars = strength, on_proved, max_chars

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
            texts.append(self.text(theorem, episode) if wanted else None)
        return Feedback(tuple(texts), {"without_message": texts.count(None)})

    def text(self, theorem: Theorem, episode: Episode) -> str:
        """Feedback on one attempt: a few sentences."""
        if episode.outcome == "proved":
            sentences = ["The proof is complete."]
        elif episode.outcome == "unfinished":
            sentences = ["The proof is unfinished."]
            if self.strength >= MESSAGE and episode.final_state:
                sentences.append(f"Left to prove: {self.cut(episode.final_state)}")
        else:
            sentences = ["The proof fails.", *self.on_error(episode)]
        if self.strength >= PROOF and theorem.proofs:
            sentences.append("A proof: " + "\n".join(theorem.proofs[0]))
        return " ".join(sentences)

    def on_error(self, episode: Episode) -> list[str]:
        """What is said of a failed tactic."""
        sentences = []
        if self.strength >= KIND and episode.tactics:
            sentences.append(f"The tactic `{self.cut(episode.tactics[-1])}` {KINDS[episode.error_kind or 'tactic']}.")
        if self.strength >= MESSAGE and episode.message:
            sentences.append(f"Lean says: {self.cut(episode.message)}")
        if self.strength >= STATE and episode.states:
            sentences.append(f"The state was: {self.cut(episode.states[-1])}")
        return sentences

    def cut(self, text: str) -> str:
        """At most ``max_chars`` of a text."""
        return text if len(text) <= self.max_chars else text[: self.max_chars] + "…"
