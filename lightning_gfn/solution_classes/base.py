"""What says which completions of a problem are solved the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lightning_gfn.types import Problem


class SolutionClasses(ABC):
    """A partition of the completions of each problem into classes, the ways of solving it.

    Metrics, rewards, filters and reports that ask for different solutions share one such object.
    """

    is_pointwise: bool = True
    """The class of a completion depends on the problem and on it alone: labels of two calls compare. False for clusters
    of the completions that are given together, whose labels mean something within one call."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for metric keys, such as ``equation_sets``."""

    @property
    def meaning(self) -> str:
        """What the classes are, settings that the name does not show included; runs that are compared share it."""
        return self.name

    @abstractmethod
    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The class of each completion.

        Args:
            problem: the problem that all of them attempt.
            completions: texts, right or wrong.

        Returns:
            One label a completion; None where it belongs to no class.
        """

    def require_pointwise(self, reader: str) -> None:
        """Refuse clusters where labels of several calls are compared.

        Args:
            reader: who compares them, for the message.

        Raises:
            ValueError: labels mean something within one call alone.
        """
        if not self.is_pointwise:
            raise ValueError(
                f"{reader} compares classes of several batches, and {type(self).__name__} numbers the clusters of each "
                "batch anew: use classes that depend on one completion alone, such as EquationClasses"
            )
