"""A user's plain Python function as a reward."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.prompts.chat import ChatPrompt
from lightning_gfn.rewards.coroutines import start
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts
from lightning_gfn.user_functions.columns import UserFunction, problem_columns

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
        self.function = UserFunction(function, "reward function")
        self.name = self.function.name
        self.prefixes, self.texts = prefixes, texts
        self.begun: tuple[Rollouts, bool, Any] | None = None
        self.warned = False
        self.provides = frozenset({"log_reward_B", "log_reward_BT1"} if prefixes else {"log_reward_B"})

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is under way."""
        return {**self.__dict__, "begun": None}

    def begin(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> None:
        """Start an ``async def``, whose values ``terms`` of the same rollouts then awaits; other functions wait."""
        if self.function.is_awaited:
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
            raise ValueError(f"{self.function} gives no prefix values; set prefixes: true on FunctionReward")
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
        with self._named(problems):
            result = self.function(columns)
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
            error.add_note(f"{self.function} on problem {ids[0]}{more}")
            raise

    def _checked(self, result: Any, owners: Sequence[str]) -> list[float]:
        """The values as numbers, one for each of the problems named."""
        expected = len(owners)
        values = result.tolist() if hasattr(result, "tolist") else result
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise TypeError(f"{self.function} must return a list of floats, got {type(result).__name__}")
        if len(values) != expected:
            raise ValueError(f"{self.function} returned {len(values)} values for {expected} completions")
        if not self.warned and all(value is None for value in values):
            self.warned = True
            rank_zero_warn(f"{self.function} abstained on all {expected} completions, which adds 0 to each")
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
                f"{self.function} returned {value!r} of type {type(value).__name__} {where}; return a float or None"
            ) from None
        if not abs(number) <= LARGEST:
            kind = "which float32 cannot hold" if math.isfinite(number) else "log rewards must be finite"
            raise ValueError(
                f"{self.function} returned {number} {where}; {kind}, use a large negative number such as -50"
            )
        return number


def action_tokens(rollouts: Rollouts) -> list[list[int]]:
    """The action tokens of each trajectory, those of several steps joined."""
    joined: list[list[int]] = [[] for _ in range(rollouts.num_trajectories)]
    for b, ids in zip(rollouts.trajectory_index_N.tolist(), rollouts.action_lists(), strict=True):
        joined[b] += ids
    return joined
