"""Classes of solutions with the same equations, whatever their wording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from lightning_gfn.answers.equation_normal_form import equations
from lightning_gfn.answers.equations import equation_is_true
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem

Order = Literal["sequence", "set"]


class EquationClasses(SolutionClasses):
    """Solutions with the same equations in normal form: in the same order, or in any order and number.

    Solutions without an equation are one class, with the empty label.

    Args:
        order: ``sequence``, or ``set``, where order and repetition do not count.
        only_true: solutions with a false equation, or with none, belong to no class. Equations that hold an unknown
            count as true.
    """

    def __init__(self, order: Order = "set", only_true: bool = False) -> None:
        if order not in get_args(Order):
            raise ValueError(f"order: unknown choice {order!r}; use one of {', '.join(get_args(Order))}")
        self.order, self.only_true = order, only_true

    @property
    def name(self) -> str:
        return f"equation_{self.order}s"

    @property
    def meaning(self) -> str:
        """Whether false equations count."""
        return f"{self.name}, true ones alone" if self.only_true else self.name

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """The equations of each completion, joined by semicolons."""
        return [self.label(text) for text in completions]

    def label(self, text: str) -> str | None:
        """The class of one completion."""
        found = equations(text)
        if self.only_true and (not found or any(equation_is_true(equation) is False for equation in found)):
            return None
        return "; ".join(sorted(set(found)) if self.order == "set" else found)
