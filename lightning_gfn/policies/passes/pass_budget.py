"""How many rows and tokens one pass of a model may hold, and which rows share a pass."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache


@dataclass(frozen=True)
class PassBudget:
    """The most that one pass of a model holds; a larger batch is cut into passes, and its results stay the same.

    A pass over n rows counts, padding included,

        n · (longest context + longest action)        tokens

    Rows of equal length share a pass, so that little of it is padding. A row that is longer than the limit goes alone.

    Args:
        max_tokens_per_pass: of scoring, with and without gradient, and of sampling; None for no limit.
        max_rows_per_pass: rows of every pass; None for no limit.
        max_sampling_tokens: tokens of a sampling pass, whose actions count with their maximum length. Sampling keeps
            keys and values only, so that it can hold more than training; None takes ``max_tokens_per_pass``.

    Raises:
        ValueError: a limit is below 1.
    """

    max_tokens_per_pass: int | None = None
    max_rows_per_pass: int | None = None
    max_sampling_tokens: int | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and value < 1:
                raise ValueError(f"budget.{limit.name} is {value}, expected at least 1, or null for no limit")

    @property
    def limits_scoring(self) -> bool:
        """True if scoring may need several passes."""
        return self.max_tokens_per_pass is not None or self.max_rows_per_pass is not None

    @property
    def _sampling_limit(self) -> str:
        return "max_tokens_per_pass" if self.max_sampling_tokens is None else "max_sampling_tokens"

    def scoring_passes(
        self, contexts: Sequence[int], actions: Sequence[int], prompts: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Which rows each pass of scoring takes, shortest first.

        Args:
            contexts: tokens of each context.
            actions: tokens of each action.
            prompts: which context each row has, for a pass that reads equal ones once: their rows stay together.
        """
        lengths = [context + action for context, action in zip(contexts, actions, strict=True)]
        keys = [(length, context, 0) for length, context in zip(lengths, contexts, strict=True)]
        if prompts is not None:
            longest: dict[int, int] = {}
            for prompt, length in zip(prompts, lengths, strict=True):
                longest[prompt] = max(longest.get(prompt, 0), length)
            keys = [(longest[prompt], prompt, length) for prompt, length in zip(prompts, lengths, strict=True)]
        order = sorted(range(len(contexts)), key=keys.__getitem__)
        return self._cut(order, contexts, actions, "max_tokens_per_pass")

    def sampling_passes(self, contexts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """Which rows each pass of sampling takes, shortest first; equal contexts stand together.

        Args:
            contexts: token ids of each context.
            max_new_tokens: longest action.
        """
        first: dict[tuple[int, ...], int] = {}
        group = [first.setdefault(tuple(context), n) for n, context in enumerate(contexts)]
        order = sorted(range(len(contexts)), key=lambda n: (len(contexts[n]), group[n]))
        name = self._sampling_limit
        return self._cut(order, [len(context) for context in contexts], [max_new_tokens] * len(contexts), name)

    def sampling_slots(self, contexts: Sequence[Sequence[int]], max_new_tokens: int) -> int:
        """How many rows sampling may hold at a time where finished ones make room for others.

        Args:
            contexts: token ids of each context.
            max_new_tokens: longest action.
        """
        name = self._sampling_limit
        max_tokens: int | None = getattr(self, name)
        rows = len(contexts) if self.max_rows_per_pass is None else min(self.max_rows_per_pass, len(contexts))
        if max_tokens is None:
            return rows
        width = max(map(len, contexts)) + max_new_tokens
        if width > max_tokens:
            warn_of_long_rows(name, max_tokens)
        return max(1, min(rows, max_tokens // width))

    def _cut(self, order: Sequence[int], contexts: Sequence[int], actions: Sequence[int], name: str) -> list[list[int]]:
        max_tokens: int | None = getattr(self, name)
        passes: list[list[int]] = [[]]
        context = action = 0
        for n in order:
            context, action = max(context, contexts[n]), max(action, actions[n])
            rows = len(passes[-1]) + 1
            too_many = self.max_rows_per_pass is not None and rows > self.max_rows_per_pass
            if passes[-1] and (too_many or (max_tokens is not None and rows * (context + action) > max_tokens)):
                passes.append([])
                context, action = contexts[n], actions[n]
            passes[-1].append(n)
            if max_tokens is not None and context + action > max_tokens:
                warn_of_long_rows(name, max_tokens)
        return passes


@cache
def warn_of_long_rows(name: str, limit: int) -> None:
    """Say once that rows go beyond the limit."""
    warnings.warn(
        f"a row alone has more tokens than budget.{name}={limit} and goes alone: if memory runs out, lower "
        "max_prompt_tokens or max_new_tokens",
        stacklevel=2,
    )
