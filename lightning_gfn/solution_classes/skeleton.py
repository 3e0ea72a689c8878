"""Classes of solutions with the same skeleton: the same operations in the same order, whatever the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.answers.equation_normal_form import operations
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem


class SkeletonClasses(SolutionClasses):
    """Solutions whose equations have the same operations in the same order; numbers and wording do not count.

    ``3 * 9 = 27. 27 + 5 = 32.`` and ``Twice: 2 * 4 = 8, and 8 + 1 = 9`` have the skeleton ``*; +``. Solutions without
    an equation are one class, with the empty label.
    """

    @property
    def name(self) -> str:
        return "skeletons"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The operations of each equation, equations joined by semicolons."""
        return ["; ".join(operations(text)) for text in completions]
