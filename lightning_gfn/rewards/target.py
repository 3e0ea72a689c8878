"""The target distribution itself as a reward, where the data enumerate its completions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM = "log_target"


class TargetWeight(Reward):
    """Log weight of the completion under the problem's target distribution.

        log R(z) = target[z]          log R(z) = otherwise, if the target gives z no mass        (nats)

    A completion without mass has log R = −∞, which no balance can reach; ``otherwise`` takes its place. With K
    completions that the target does not know it leaves them K · exp(otherwise) / Z of the mass.

    Args:
        otherwise: log weight of every completion without mass.
    """

    is_constant = True
    provides = frozenset({"log_reward_B", "log_reward_BT1"})

    def __init__(self, otherwise: float = -20.0) -> None:
        if not math.isfinite(otherwise):
            raise ValueError(f"reward.otherwise is {otherwise}, expected a finite log weight, well below the target's")
        self.otherwise = otherwise

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Look the completions up, or the texts of all prefixes.

        Args:
            rollouts: B trajectories.
            policy: decodes prefixes.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``{"log_target": …}`` in nats, and whether the target gives the completion mass.

        Raises:
            ValueError: a problem has no target.
        """
        device = rollouts.action_mask_NT.device
        problems = [rollouts.problems[p] for p in rollouts.problem_index_B.tolist()]
        targets = [self.target_of(problem) for problem in problems]
        pairs = list(zip(targets, rollouts.completions, strict=True))
        correct_B = torch.tensor([text in target for target, text in pairs], dtype=torch.bool, device=device)
        if not prefixes:
            weights = [target.get(text, self.otherwise) for target, text in pairs]
            return {TERM: torch.tensor(weights, dtype=torch.float32, device=device)}, correct_B
        require_single_step(rollouts, type(self).__name__)
        rows = [
            [target.get(policy.decode(ids[:end]), self.otherwise) for end in range(len(ids) + 1)]
            for target, ids in zip(targets, rollouts.action_lists(), strict=True)
        ]
        return {TERM: pad_prefix_values(rows, rollouts)}, correct_B

    def target_of(self, problem: Problem) -> Mapping[str, float]:
        """The problem's target.

        Raises:
            ValueError: it has none.
        """
        if problem.target is None:
            raise ValueError(
                f"problem {problem.id!r} has no target distribution, which TargetWeight needs: use data that "
                "enumerate one (datamodules.inference.random_integers) or another reward"
            )
        return problem.target

    def try_on(self, problem: Problem) -> None:
        """Refuse data without targets before a model is loaded."""
        self.target_of(problem)

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The log weight itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)
