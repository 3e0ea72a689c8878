"""Abstract base classes of learning from an own teacher: the policy that teaches, and the feedback that it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gfn.interfaces import Policy
from lightning_gfn.types import CandidateScores, Feedback, Rollouts, StepBatch


class TeachingPolicy(Policy):
    """A policy that can also teach: it keeps an average of its trained weights."""

    @abstractmethod
    def start_teacher(self) -> None:
        """Make the teacher: a copy of the trained weights as they are now."""

    @abstractmethod
    def update_teacher(self, decay: float) -> None:
        """Move the teacher's weights: teacher = decay · teacher + (1 - decay) · policy."""

    @abstractmethod
    def teacher_actions(self, steps: StepBatch, *, top_k: int) -> CandidateScores:
        """The teacher's ``top_k`` most probable next actions at every prefix of given actions, without gradient.

        Args:
            steps: what the teacher sees, and the actions.
            top_k: K.
        """

    @abstractmethod
    def write_as_reference(self, contexts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy continuations of contexts by the frozen reference."""


class FeedbackSource(ABC):
    """Says of sampled trajectories what the teacher gets to read beside the prompt.

    A trajectory for which there is nothing to say, or for which something failed, gets None: it is left out of the
    loss and counted. Bad luck with one trajectory is never an error.
    """

    needs_reference: bool = False
    """True if the frozen reference writes the feedback, so that the module must keep one."""

    def setup(self) -> None:  # noqa: B027 - most sources have nothing to check
        """Called before training and before weights are loaded; raises where the settings cannot work."""

    @abstractmethod
    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """Feedback on the chosen trajectories of rollouts whose answers have been checked."""

    def state_dict(self) -> dict[str, Any]:
        """State as tensors and primitives."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most sources have no state
        """Restore ``state_dict``."""
