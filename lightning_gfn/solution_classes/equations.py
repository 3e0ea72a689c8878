"""Classes of solutions with the same equations, whatever their wording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from lightning_gfn.answers.equation_normal_form import equations
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem

Order = Literal["sequence", "set"]


class EquationClasses(SolutionClasses):
    """Solutions with the same equations in normal form: in the same order, or in any order and number.

    Solutions without an equation are one class, with the empty label.

    Args:
        order: ``sequence``, or ``set``, where order and repetition do not count.
    """

    def __init__(self, order: Order = "set") -> None:
        if order not in get_args(Order):
            raise ValueError(f"order: unknown choice {order!r}; use one of {', '.join(get_args(Order))}")
        self.order = order

    @property
    def name(self) -> str:
        return f"equation_{self.order}s"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The equations of each completion, joined by semicolons."""
        found = [equations(text) for text in completions]
        return ["; ".join(sorted(set(each)) if self.order == "set" else each) for each in found]
