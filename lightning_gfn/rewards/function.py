"""A user's plain Python function as a reward."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor


class FunctionReward(Reward):
    """Calls ``f(completions=[…], prompts=[…], **columns) -> list[float]`` and takes its values as log rewards (nats).

    The columns are lists as long as ``completions``: ``answer``, ``id`` and every key of ``Problem.metadata`` in the
    batch (None where a problem lacks it; the names ``completions``, ``prompts``, ``answer`` and ``id`` are reserved).
    A function that takes no ``**kwargs`` receives only the arguments that it names. None in the result means "no
    opinion" and counts as 0.

    Args:
        function: a dotted path (``package.module.f``), a file and a name (``path/to/file.py:f``), or the function
            itself; a class is instantiated without arguments and its instances are called.
        prefixes: evaluate the function on the text of every prefix, all in one call of B · (T + 1) texts at most, so
            that objectives on prefix rewards can use it. Such values are log rewards of stopping there.

    Raises:
        ValueError: if the path does not lead to a function.
        TypeError: if the function takes no argument ``completions``.
    """

    is_constant = True

    def __init__(self, function: str | Callable[..., Any], *, prefixes: bool = False) -> None:
        loaded = load_function(function) if isinstance(function, str) else function
        self.function: Callable[..., Any] = cast(type, loaded)() if inspect.isclass(loaded) else loaded
        self.name: str = getattr(self.function, "__name__", type(self.function).__name__)
        self.prefixes = prefixes
        self.provides = frozenset({"log_reward_B", "log_reward_BT1"} if prefixes else {"log_reward_B"})
        self.accepted = accepted_arguments(self.function)
        if self.accepted is not None and "completions" not in self.accepted:
            raise TypeError(
                f"reward function '{self.name}' must take an argument named 'completions' (a list of texts)"
            )

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Call the function once.

        Args:
            rollouts: B trajectories.
            policy: decodes prefixes.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            One term, named like the function, and None.

        Raises:
            ValueError: if the result has the wrong length or values that are not finite, or if prefixes were not
                switched on.
            TypeError: if the result is no list of numbers, or the function needs a column that the data lack.
        """
        problems = [rollouts.problems[p] for p in rollouts.problem_index_B.tolist()]
        if not prefixes:
            values = self._call(list(rollouts.completions), problems)
            return {self.name: torch.tensor(values, dtype=torch.float32, device=rollouts.action_mask_NT.device)}, None
        if not self.prefixes:
            raise ValueError(
                f"reward function '{self.name}' gives no prefix values; set prefixes: true on FunctionReward"
            )
        require_single_step(rollouts, type(self).__name__)
        actions = rollouts.action_lists()
        texts = [policy.decode(ids[:end]) for ids in actions for end in range(len(ids) + 1)]
        owners = [problem for problem, ids in zip(problems, actions, strict=True) for _ in range(len(ids) + 1)]
        left = iter(self._call(texts, owners))
        rows = [[next(left) for _ in range(len(ids) + 1)] for ids in actions]
        return {self.name: pad_prefix_values(rows, rollouts)}, None

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The function's values themselves (weight 1, temperature 1)."""
        return log_reward_of_term(terms, self.name, rollouts)

    def _call(self, completions: list[str], problems: Sequence[Problem]) -> list[float]:
        columns = problem_columns(problems)
        columns |= {"completions": completions, "prompts": [problem.prompt for problem in problems]}
        if self.accepted is not None:
            columns = {name: values for name, values in columns.items() if name in self.accepted}
        self._require_columns(columns)
        return self._checked(self.function(**columns), len(completions))

    def _require_columns(self, columns: Mapping[str, Any]) -> None:
        try:
            signature = inspect.signature(self.function)
        except ValueError:
            return
        try:
            signature.bind(**columns)
        except TypeError as error:
            raise TypeError(
                f"reward function '{self.name}': {error}; the data give {sorted(columns)}: add the column to the "
                "problems' metadata or give the argument a default"
            ) from None

    def _checked(self, result: Any, expected: int) -> list[float]:
        values = result.tolist() if hasattr(result, "tolist") else result
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise TypeError(f"reward function '{self.name}' must return a list of floats, got {type(result).__name__}")
        if len(values) != expected:
            raise ValueError(f"reward function '{self.name}' returned {len(values)} values for {expected} completions")
        return [self._number(value, index) for index, value in enumerate(values)]

    def _number(self, value: Any, index: int) -> float:
        if value is None:
            return 0.0
        try:
            if isinstance(value, str):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"reward function '{self.name}' returned {value!r} of type {type(value).__name__} for completion "
                f"{index}; return a float or None"
            ) from None
        if not math.isfinite(number):
            raise ValueError(
                f"reward function '{self.name}' returned {number} for completion {index}; log rewards must be finite, "
                "use a large negative number such as -50"
            )
        return number


def problem_columns(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """The problems' fields as lists: every metadata key in the batch, then ``answer`` and ``id``."""
    keys = dict.fromkeys(key for problem in problems for key in problem.metadata)
    columns: dict[str, list[Any]] = {key: [problem.metadata.get(key) for problem in problems] for key in keys}
    columns["answer"] = [problem.answer for problem in problems]
    columns["id"] = [problem.id for problem in problems]
    return columns


def accepted_arguments(function: Callable[..., Any]) -> frozenset[str] | None:
    """Names that the function takes as keywords; None if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(parameter.name for parameter in parameters if parameter.kind in by_keyword)


def load_function(path: str) -> Callable[..., Any]:
    """Import ``package.module.f`` or ``path/to/file.py:f``.

    Args:
        path: where the function is.

    Returns:
        The function or class.

    Raises:
        ValueError: if it cannot be found or called.
    """
    file, colon, name = path.rpartition(":")
    if not colon:
        file, _, name = path.rpartition(".")
    if not file or not name:
        raise ValueError(f"reward function '{path}': write package.module.f or path/to/file.py:f")
    try:
        module = _load_file(Path(file)) if colon else importlib.import_module(file)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"reward function '{path}': {error}; for a file outside the installed packages write path/to/file.py:f"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"reward function '{path}': '{file}' has no function or class '{name}'")
    return function


def _load_file(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"reward function file '{file}' does not exist (looked in {Path.cwd()})")
    name = f"reward_function_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"reward function file '{file}' is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up by name
    spec.loader.exec_module(module)
    return module
