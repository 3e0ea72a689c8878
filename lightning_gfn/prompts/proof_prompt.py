"""Proof prompts: what a policy reads before it proposes a tactic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ProofPrompt:
    """What a policy reads before it proposes a tactic: the state, and the tactics so far.

        state
        --
        tactic 1
        tactic 2
        --

    With the history in the prompt two different beginnings of a proof are two different contexts, so that the graph of
    a theorem is a tree and the backward policy is 1.

    Args:
        max_state_chars: a longer state is cut at its end, as in ReProver; its first goal comes first.
        history: show the tactics so far.
        max_history_chars: of a longer history the beginning is cut.

    Source: Proof Flow, arXiv:2410.13224, section 3; truncation: Yang et al. 2023, arXiv:2306.15626, section 5.
    """

    max_state_chars: int = 400
    history: bool = True
    max_history_chars: int = 200

    def __post_init__(self) -> None:
        if self.max_state_chars < 1 or self.max_history_chars < 1:
            raise ValueError(
                f"prompt.max_state_chars={self.max_state_chars} and max_history_chars={self.max_history_chars} must be "
                "at least 1"
            )

    def __call__(self, state: str, tactics: Sequence[str] = ()) -> str:
        """The prompt for a state that these tactics led to."""
        shown = state[: self.max_state_chars]
        past = "\n".join(tactics)[-self.max_history_chars :] if self.history and tactics else ""
        return f"{shown}\n--\n{past}\n--\n" if past else f"{shown}\n--\n"
