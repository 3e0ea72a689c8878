"""Rollouts of given texts under a policy whose tokens are characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import tabular_policy as TABULAR
import torch

from lightning_gfn.types import Problem, Rollouts, StepBatch


@pytest.fixture
def make_policy() -> Callable[..., object]:
    """The policy class."""
    return TABULAR.TabularPolicy


@pytest.fixture
def policy() -> object:
    """A policy of at most 60 tokens."""
    return TABULAR.TabularPolicy(max_new_tokens=60)


@pytest.fixture
def make_rollouts() -> Callable[..., Rollouts]:
    """Rollouts in which trajectory b is completion b of problem ``owners[b]``."""

    def make(problems: Sequence[Problem], completions: Sequence[str], owners: Sequence[int] | None = None) -> Rollouts:
        policy = TABULAR.TabularPolicy()
        index = list(owners) if owners is not None else list(range(len(completions)))
        context_ids, context_mask = policy.pad([policy.encode_prompt(problems[p].prompt) for p in index])
        action_ids, action_mask = policy.pad([policy.encode_completion(text) for text in completions])
        return Rollouts(
            problems=tuple(problems),
            problem_index_B=torch.tensor(index),
            trajectory_index_N=torch.arange(len(completions)),
            steps=StepBatch(
                context_ids,
                context_mask,
                action_ids,
                action_mask,
            ),
            completions=tuple(completions),
            sources=("on_policy",) * len(completions),
        )

    return make
