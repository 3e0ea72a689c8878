"""Rewards that vary and cost nothing, so that rows measure training alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.terms import log_reward_of_term
from lightning_gfn.types import LogReward, Rollouts

TERM, SCALE = "tokens", 0.1


def distinct_words(completions: list[str], **columns: Any) -> list[float]:
    """A reward that varies within a group."""
    return [float(len(set(text.split())) % 7) for text in completions]


def prefix_values(action_ids_NT: Tensor, action_mask_NT: Tensor) -> Tensor:
    """log R of each prefix, (N, T + 1), nats: minus a tenth of the sum of its token ids modulo 7."""
    costs_NT = SCALE * (action_ids_NT % 7) * action_mask_NT
    return -pad(costs_NT.to(torch.float32).cumsum(1), (1, 0))


class TokenReward(Reward):
    """The log reward of ``prefix_values``, from token ids alone."""

    is_constant = True
    provides = frozenset({"log_reward_B", "log_reward_BT1"})

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Of each prefix, or of the whole action."""
        values_NT1 = prefix_values(rollouts.action_ids_NT, rollouts.action_mask_NT)
        return {TERM: values_NT1 if prefixes else rollouts.at_last_prefix(values_NT1)}, None

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The term itself."""
        return log_reward_of_term(terms, TERM, rollouts)
