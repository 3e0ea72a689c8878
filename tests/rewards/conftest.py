"""Rollouts of given texts under a policy whose tokens are characters."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lightning_gfn.types import Problem, Rollouts, StepBatch


def load_helper(name: str) -> ModuleType:
    """Import tests/helpers/<name>.py."""
    path = Path(__file__).parents[1] / "helpers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"tests_helper_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TABULAR = load_helper("tabular_policy")


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
