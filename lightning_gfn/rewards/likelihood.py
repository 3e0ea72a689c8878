"""The likelihood of a trajectory under the frozen reference policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.terms import log_reward_of_term, require_single_step
from lightning_gfn.types import LogReward, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM = "log_p_ref"


class ReferenceLikelihood(Reward):
    """Log-likelihood of a trajectory under the policy as this stage began.

        log R(z_1:i, stop) = Σ_{t ≤ i} log p_ref(z_t | z_<t) + log p_ref(stop | z_1:i)        (nats)

    The term ``log_p_ref`` holds this for the finished trajectory or for each prefix. A prefix that may not stop has
    no such likelihood and holds the sum over its tokens alone; objectives leave it out by their mask. A stop that the
    maximum length forces costs nothing.

    Source: Hu et al. 2024, arXiv:2310.04363, section 3.
    """

    is_constant = True
    is_log_weight = True
    provides = frozenset({"log_reward_B", "log_reward_BT1"})
    needs_reference = True

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Score once under the reference.

        Args:
            rollouts: B trajectories of N steps.
            policy: holds the frozen reference.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``{"log_p_ref": …}`` in nats, and None, since no answers are checked.

        Raises:
            ValueError: if prefixes are asked of trajectories with several steps.
        """
        if prefixes:
            require_single_step(rollouts, type(self).__name__)
        log_p_NT1 = policy.score(rollouts.steps, stop=True, reference=True).log_prob_NT1().detach().float()
        if prefixes:
            return {TERM: log_p_NT1}, None
        log_p_N = rollouts.at_last_prefix(log_p_NT1)
        log_p_B = torch.zeros(rollouts.num_trajectories, dtype=log_p_N.dtype, device=log_p_N.device)
        return {TERM: log_p_B.index_add(0, rollouts.trajectory_index_N, log_p_N)}, None

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """``log_p_ref`` itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)
