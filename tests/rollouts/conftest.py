"""The tabular policy, some problems, and a reward that counts what it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

import proof_worlds
import pytest
import tabular_policy as TABULAR
import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.types import LogReward, Problem, Rollouts


class CountingReward(Reward):
    """A term that only the action tokens decide; counts the trajectories that it is asked about."""

    provides = frozenset({"log_reward_B", "log_reward_BT1"})

    def __init__(self, checks_answers: bool = True, name: str = "tokens") -> None:
        self.rows = 0
        self.checks_answers = checks_answers
        self.name = name

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        self.rows += rollouts.num_trajectories
        ids = torch.where(rollouts.action_mask_NT, rollouts.action_ids_NT, 0).float()
        values_BT1 = torch.nn.functional.pad((ids * 0.37).sin().cumsum(1), (1, 0))
        values = values_BT1 if prefixes else rollouts.at_last_prefix(values_BT1)
        verdicts_B = rollouts.action_mask_NT.sum(1) % 2 == 0
        return {self.name: values}, verdicts_B if self.checks_answers else None

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        values = terms[self.name]
        if values.dim() == 1:
            return LogReward(values)
        return LogReward(rollouts.at_last_prefix(values), values)


@pytest.fixture
def make_policy() -> Callable[..., Policy]:
    """The policy class."""
    return TABULAR.TabularPolicy


@pytest.fixture
def policy() -> Policy:
    """A policy of at most 12 tokens."""
    return TABULAR.TabularPolicy()


@pytest.fixture
def make_reward() -> Callable[..., CountingReward]:
    """The counting reward."""
    return CountingReward


@pytest.fixture
def problems() -> list[Problem]:
    """Eight problems with prompts of different lengths and two solutions each."""
    return [Problem(f"id{i}", "Q" * (i % 3 + 1) + str(i), answer="4", solutions=("ab", f"c{i}d")) for i in range(8)]


@pytest.fixture(scope="session")
def worlds() -> ModuleType:
    """Small worlds of proofs, and a policy that writes letters."""
    return proof_worlds
