"""A user's plain Python function as a reward."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.prompts.chat import ChatPrompt
from lightning_gfn.rewards.coroutines import start
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor


LARGEST = 3.4028234e38
"""The largest number that float32 holds."""


class FunctionReward(Reward):
    """Calls ``f(completions=[…], prompts=[…], **columns) -> list[float]`` and takes its values as log rewards (nats).

    The columns are lists as long as ``completions``: ``answer``, ``id``, ``completion_ids`` (token ids, no end token)
    and every key of ``Problem.metadata`` in the batch (None where a problem lacks it; the other names are reserved).
    A function that takes no ``**kwargs`` receives only the arguments that it names. None in the result is an
    abstention: it adds nothing to the sum of rewards, so that a completion on which every function abstains gets 0.

    Where the prompt is a conversation, so are the arguments: a prompt is the list of its messages, a completion a list
    of one message, ``[{"role": "assistant", "content": text}]``.

    An ``async def`` is awaited; those of one ``SumReward`` run at the same time.

    Args:
        function: a dotted path (``package.module.f``), a file and a name (``path/to/file.py:f``), or the function
            itself; a class is instantiated without arguments and its instances are called.
        prefixes: evaluate the function on the text of every prefix, all in one call of B · (T + 1) texts at most, so
            that objectives on prefix rewards can use it. Such values are log rewards of stopping there.
        texts: hand over conversations as plain texts, too.

    Raises:
        ValueError: if the path does not lead to a function.
        TypeError: if the function takes no argument ``completions``.
    """

    is_constant = True

    def __init__(self, function: str | Callable[..., Any], *, prefixes: bool = False, texts: bool = False) -> None:
        self.file = function if isinstance(function, str) and ":" in function else None
        self.function: Callable[..., Any] = called(function)
        self.name: str = getattr(self.function, "__name__", type(self.function).__name__)
        self.prefixes, self.texts = prefixes, texts
        self.begun: tuple[Rollouts, bool, Any] | None = None
        self.warned = False
        self.provides = frozenset({"log_reward_B", "log_reward_BT1"} if prefixes else {"log_reward_B"})
        self.accepted = accepted_arguments(self.function)
        if self.accepted is not None and "completions" not in self.accepted:
            raise TypeError(
                f"reward function '{self.name}' must take an argument named 'completions' (a list of texts)"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is under way, and a function of a file: its module has no name in another process."""
        kept = {**self.__dict__, "begun": None}
        return kept if self.file is None else {name: value for name, value in kept.items() if name != "function"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore ``__getstate__``; a function of a file is loaded again."""
        self.__dict__.update(state)
        if self.file is not None:
            self.function = called(self.file)

    def begin(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> None:
        """Start an ``async def``, whose values ``terms`` of the same rollouts then awaits; other functions wait."""
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(type(self.function).__call__):
            self.begun = (rollouts, prefixes, self._started(rollouts, policy, prefixes))

    def try_on(self, problem: Problem) -> None:
        """Call the function on the problem's first solution, or on an empty completion.

        Args:
            problem: any problem of the data.

        Raises:
            ValueError: the result has another length than 1 or is not finite.
            TypeError: the result is no list of numbers, or the function needs a column that the data lack.
        """
        started = self._call([problem.solutions[0] if problem.solutions else ""], [problem], [[]])
        self._checked(self._awaited(started, [problem]), [problem.id])

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
        begun, self.begun = self.begun, None
        same = begun is not None and begun[0] is rollouts and begun[1] == prefixes
        started = begun[2] if begun is not None and same else self._started(rollouts, policy, prefixes)
        counts = [len(ids) + 1 for ids in rollouts.action_lists()] if prefixes else [1] * len(rollouts.completions)
        owners = [rollouts.problem_of(b).id for b, number in enumerate(counts) for _ in range(number)]
        values = self._checked(self._awaited(started, rollouts.problems), owners)
        if not prefixes:
            return {self.name: torch.tensor(values, dtype=torch.float32, device=rollouts.action_mask_NT.device)}, None
        left = iter(values)
        rows = [[next(left) for _ in range(len(ids) + 1)] for ids in rollouts.action_lists()]
        return {self.name: pad_prefix_values(rows, rollouts)}, None

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The function's values themselves (weight 1, temperature 1)."""
        return log_reward_of_term(terms, self.name, rollouts)

    def _started(self, rollouts: Rollouts, policy: Policy, prefixes: bool) -> Any:
        """What the function returns, or of an ``async def`` its future."""
        problems = [rollouts.problems[p] for p in rollouts.problem_index_B.tolist()]
        if not prefixes:
            return self._call(list(rollouts.completions), problems, action_tokens(rollouts))
        if not self.prefixes:
            raise ValueError(
                f"reward function '{self.name}' gives no prefix values; set prefixes: true on FunctionReward"
            )
        require_single_step(rollouts, type(self).__name__)
        actions = rollouts.action_lists()
        ids = [row[:end] for row in actions for end in range(len(row) + 1)]
        owners = [problem for problem, row in zip(problems, actions, strict=True) for _ in range(len(row) + 1)]
        return self._call([policy.decode(prefix) for prefix in ids], owners, ids)

    def _call(self, completions: list[str], problems: Sequence[Problem], ids: list[list[int]]) -> Any:
        columns = problem_columns(problems)
        prompts: list[Any] = [problem.prompt for problem in problems]
        answers: list[Any] = list(completions)
        for b, prompt in enumerate(prompts):
            if isinstance(prompt, ChatPrompt):
                prompts[b] = str(prompt) if self.texts else prompt.dicts()
                answers[b] = answers[b] if self.texts else [{"role": "assistant", "content": answers[b]}]
        columns |= {"completions": answers, "prompts": prompts, "completion_ids": ids}
        if self.accepted is not None:
            columns = {name: values for name, values in columns.items() if name in self.accepted}
        self._require_columns(columns)
        with self._named(problems):
            result = self.function(**columns)
        return start(result) if inspect.iscoroutine(result) else result

    def _awaited(self, started: Any, problems: Sequence[Problem]) -> Any:
        with self._named(problems):
            return started.result() if isinstance(started, Future) else started

    @contextmanager
    def _named(self, problems: Sequence[Problem]) -> Iterator[None]:
        """Note on an error of the function which reward and which problems it was asked about."""
        try:
            yield
        except Exception as error:
            ids = list(dict.fromkeys(problem.id for problem in problems))
            more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
            error.add_note(f"reward function '{self.name}' on problem {ids[0]}{more}")
            raise

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

    def _checked(self, result: Any, owners: Sequence[str]) -> list[float]:
        """The values as numbers, one for each of the problems named."""
        expected = len(owners)
        values = result.tolist() if hasattr(result, "tolist") else result
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise TypeError(f"reward function '{self.name}' must return a list of floats, got {type(result).__name__}")
        if len(values) != expected:
            raise ValueError(f"reward function '{self.name}' returned {len(values)} values for {expected} completions")
        if not self.warned and all(value is None for value in values):
            self.warned = True
            rank_zero_warn(
                f"reward function '{self.name}' abstained on all {expected} completions, which adds 0 to each"
            )
        return [self._number(v, i, owner) for i, (v, owner) in enumerate(zip(values, owners, strict=True))]

    def _number(self, value: Any, index: int, problem: str) -> float:
        """A value as float32 holds it; completions and prefixes are counted by ``index``."""
        if value is None:
            return 0.0
        where = f"for completion {index} (problem {problem!r})"
        try:
            if isinstance(value, str):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"reward function '{self.name}' returned {value!r} of type {type(value).__name__} {where}; return a "
                "float or None"
            ) from None
        if not abs(number) <= LARGEST:
            kind = "which float32 cannot hold" if math.isfinite(number) else "log rewards must be finite"
            raise ValueError(
                f"reward function '{self.name}' returned {number} {where}; {kind}, use a large negative number such "
                "as -50"
            )
        return number


def action_tokens(rollouts: Rollouts) -> list[list[int]]:
    """The action tokens of each trajectory, those of several steps joined."""
    joined: list[list[int]] = [[] for _ in range(rollouts.num_trajectories)]
    for b, ids in zip(rollouts.trajectory_index_N.tolist(), rollouts.action_lists(), strict=True):
        joined[b] += ids
    return joined


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


def called(function: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, or an instance of the class, that a setting names."""
    loaded = load_function(function) if isinstance(function, str) else function
    return cast(type, loaded)() if inspect.isclass(loaded) else loaded


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
