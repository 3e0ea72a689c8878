"""Classes that a user's plain Python function gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem
from lightning_gfn.user_functions.columns import UserFunction, problem_columns

NAME = re.compile(r"[A-Za-z0-9_.-]+")


class FunctionClasses(SolutionClasses):
    """Calls ``f(completions=[…], **columns) -> list[label]`` on the completions of one problem.

    The columns are lists as long as ``completions``: ``prompts``, ``answer``, ``id`` and every key of the problem's
    metadata; a function that takes no ``**kwargs`` receives only those that it names. Labels are texts or numbers; None
    belongs to no class.

    Args:
        function: a dotted path (``package.module.f``), a file and a name (``path/to/file.py:f``), or the function
            itself; a class is instantiated without arguments and its instances are called.
        name: for metric keys, in letters, digits and ``_ . -``; the function's name if None.
        pointwise: each label depends on its completion and the problem alone, so that labels of several calls compare;
            False for functions that cluster what they are given.

    Raises:
        ValueError: the path does not lead to a function, or the name holds other characters.
        TypeError: the function takes no argument ``completions``.
    """

    def __init__(self, function: str | Callable[..., Any], name: str | None = None, pointwise: bool = True) -> None:
        self.function = UserFunction(function, "class function")
        self.source = function if isinstance(function, str) else self.function.name
        self.is_pointwise = pointwise
        self.own_name = name if name is not None else self.function.name
        if NAME.fullmatch(self.own_name) is None:
            raise ValueError(f"name is {self.own_name!r}: give FunctionClasses a name of letters, digits and _ . -")

    @property
    def name(self) -> str:
        return self.own_name

    @property
    def meaning(self) -> str:
        return f"{self.name} by {self.source}"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """What the function returns, as texts.

        Raises:
            TypeError: that is no list of labels, or the function needs a column that the data lack.
            ValueError: it has another length than the completions.
        """
        if not completions:
            return []
        count = len(completions)
        columns: dict[str, list[Any]] = {name: values * count for name, values in problem_columns([problem]).items()}
        columns |= {"completions": list(completions), "prompts": [str(problem.prompt)] * count}
        found = self.function(columns)
        found = found.tolist() if hasattr(found, "tolist") else found
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise TypeError(f"{self.function} must return a list of labels, got {type(found).__name__}")
        if len(found) != count:
            raise ValueError(f"{self.function} returned {len(found)} labels for {count} completions")
        return [self._label(value) for value in found]

    def _label(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, (str, int, float)):
            raise TypeError(f"{self.function} returned a label {value!r:.80}: return texts, numbers or None")
        return str(value)
