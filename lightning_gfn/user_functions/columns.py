"""A function that is called with completions and with those of the problems' columns that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_gfn.types import Problem
from lightning_gfn.user_functions.loading import accepted_arguments, called


class UserFunction:
    """A function ``f(completions=[…], **columns)`` that is called with the columns that it takes.

    Args:
        function: a dotted path (``package.module.f``), a file and a name (``path/to/file.py:f``), or the function
            itself; a class is instantiated without arguments and its instances are called.
        kind: what messages call it, such as ``reward function``.

    Raises:
        ValueError: the path does not lead to a function.
        TypeError: the function takes no argument ``completions``.
    """

    def __init__(self, function: str | Callable[..., Any], kind: str) -> None:
        self.kind = kind
        self.file = function if isinstance(function, str) and ":" in function else None
        self.function: Callable[..., Any] = called(function, kind)
        self.name: str = getattr(self.function, "__name__", type(self.function).__name__)
        self.accepted = accepted_arguments(self.function)
        if self.accepted is not None and "completions" not in self.accepted:
            raise TypeError(f"{self} must take an argument named 'completions' (a list of texts)")

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"

    def __getstate__(self) -> dict[str, Any]:
        """Everything but a function of a file: its module has no name in another process."""
        kept = dict(self.__dict__)
        return kept if self.file is None else {name: value for name, value in kept.items() if name != "function"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore ``__getstate__``; a function of a file is loaded again."""
        self.__dict__.update(state)
        if self.file is not None:
            self.function = called(self.file, self.kind)

    @property
    def is_awaited(self) -> bool:
        """True for an ``async def``."""
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(type(self.function).__call__)

    def __call__(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        """What the function returns for columns, of which it is given those that it names.

        Raises:
            TypeError: it needs a column that there is not.
        """
        given = {name: values for name, values in columns.items() if self.accepted is None or name in self.accepted}
        self._require_columns(given)
        return self.function(**given)

    def _require_columns(self, columns: Mapping[str, Any]) -> None:
        try:
            signature = inspect.signature(self.function)
        except ValueError:
            return
        try:
            signature.bind(**columns)
        except TypeError as error:
            raise TypeError(
                f"{self}: {error}; the data give {sorted(columns)}: add the column to the problems' metadata or give "
                "the argument a default"
            ) from None


def problem_columns(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """The problems' fields as lists: every metadata key in the batch, then ``answer`` and ``id``."""
    keys = dict.fromkeys(key for problem in problems for key in problem.metadata)
    columns: dict[str, list[Any]] = {key: [problem.metadata.get(key) for problem in problems] for key in keys}
    columns["answer"] = [problem.answer for problem in problems]
    columns["id"] = [problem.id for problem in problems]
    return columns
