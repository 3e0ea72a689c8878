"""Policies that answer by a rule, so that it is known whether their answer follows a rationale."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tabular_policy import TabularPolicy
from torch import Tensor

from lightning_gfn.types import SampledActions, StepBatch

Rule = Callable[[str], str]


def copy_last_number(context: str) -> str:
    """The last number that stands before the answer, in the rationale."""
    return re.findall(r"\d+", context)[-1]


def read_the_question(context: str) -> str:
    """The first number, which is in the question."""
    return re.findall(r"\d+", context)[0]


class AnsweringPolicy(TabularPolicy):
    """Writes a blank and what its rule reads off the context, then stops."""

    def __init__(self, rule: Rule, **settings: Any) -> None:
        super().__init__(max_new_tokens=64, **settings)
        self.rule = rule
        self.asked: list[str] = []

    def set_lengths(self, min_new_tokens: int, max_new_tokens: int) -> None:
        assert max_new_tokens >= 4, "room for the answer"
        super().set_lengths(min_new_tokens, max_new_tokens)

    def sample(self, contexts: Sequence[Sequence[int]], uniforms_NT1: Tensor, **behaviour: Any) -> SampledActions:
        assert behaviour == {"top_k": 1} and uniforms_NT1.shape == (len(contexts), self.max_new_tokens + 1)
        texts = [self.decode(context) for context in contexts]
        self.asked += texts
        ids, mask = self.pad([self.encode_completion(" " + self.rule(text)) for text in texts])
        steps = StepBatch(*self.pad([list(context)[-1:] for context in contexts]), ids, mask)
        return SampledActions(ids, mask, self.score(steps), torch.zeros(ids.shape), torch.zeros(len(ids)))
