"""Feedback on failed attempts at a theorem, in words."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_gfn.lean_types import Episode, ErrorKind, Theorem

KIND, MESSAGE, STATE, PROOF = 0.25, 0.5, 0.75, 1.0


KINDS: dict[ErrorKind, str] = {
    "tactic": "failed",
    "forbidden": "is not allowed",
    "timeout": "took too long",
    "unsound": "did not survive the check",
    "fault": "broke Lean",
    "statement": "could not be run",
}


@dataclass(frozen=True)
class LeanWords:
    """What is said of the tactic that failed, or of the goals that were left.

        strength ≥ 0     whether the attempt is a proof
        strength ≥ 0.25  and which tactic failed in what way          (errors)
        strength ≥ 0.5   and Lean's message                           (errors), the goals left   (unfinished)
        strength ≥ 0.75  and the state in which the tactic failed     (errors)
        strength = 1     and the first known proof

    What is not known is left out.

    Args:
        strength: in [0, 1].
        max_chars: of a message or state; the rest is cut.

    Raises:
        ValueError: a number is out of range.

    Source: compiler output as feedback, Feedback Distillation, arXiv:2605.30861.
    """

    strength: float = 0.5
    max_chars: int = 300

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength is {self.strength}, expected 0 (the outcome alone) to 1 (a known proof)")
        if self.max_chars < 1:
            raise ValueError(f"max_chars is {self.max_chars}, expected at least 1")

    def __call__(self, theorem: Theorem, episode: Episode) -> str:
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
