"""A target that is uniform over right completions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.class_targets.right_texts import judged
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.terms import log_reward_of_term
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.solution_classes.known_paths import KnownPaths
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

VALID, LOG_P_REF = "valid", "log_p_ref"


class ConstantWhenRight(Reward):
    """One constant for every right completion that is valid, and the reference's likelihood for all others.

        log R(z) = c               right(z) and κ(z) is a class
        log R(z) = log p_ref(z)    otherwise                              (nats)

    Balanced, valid right completions are equally probable, however improbable the reference finds them, and a problem
    with n of them is solved with probability n e^c / (n e^c + 1 - p), p being the reference's own share of them.
    Without a check of validity the texts that end in the right answer by accident, of which there are many more than
    solutions, would have most of that. Prefixes are judged as completions.

    Args:
        constant: c, nats.
        valid: a right completion that belongs to none of these classes is not valid: ``KnownPaths``, or
            ``EquationClasses`` with ``only_true``.
        success: says which completions are right by a term of zeros and ones: ``AnswerMatch`` or ``ProofSuccess``.

    Raises:
        ValueError: the constant is not finite, or the classes are clusters.
    """

    is_constant = True
    needs_reference = True

    def __init__(
        self, constant: float = 2.0, valid: SolutionClasses | None = None, *, success: Reward | None = None
    ) -> None:
        if not math.isfinite(constant):
            raise ValueError(f"reward.constant is {constant}, expected a finite number of nats such as 2")
        self.constant = constant
        self.valid = valid if valid is not None else KnownPaths()
        self.valid.require_pointwise("ConstantWhenRight")
        self.success = success if success is not None else AnswerMatch()
        self.likelihood = ReferenceLikelihood()
        self.provides = frozenset(self.success.provides)

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Judge, score under the reference and check validity of what is right.

        Args:
            rollouts: B trajectories.
            policy: holds the frozen reference.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``valid`` (ones and zeros) and ``log_p_ref``; the verdicts.
        """
        likelihood, _ = self.likelihood.terms(rollouts, policy, prefixes=prefixes)
        found = judged(rollouts, policy, self.success, self.valid, prefixes=prefixes)
        valid = found.spread(lambda _, labels: [float(label is not None) for label in labels], rollouts)
        return {VALID: valid, LOG_P_REF: likelihood[LOG_P_REF]}, found.correct_B

    def try_on(self, problem: Problem) -> None:
        """Ask the check about one problem before a model is loaded."""
        self.success.try_on(problem)
        self.valid.labels(problem, problem.solutions[:1])

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The constant where a completion is valid, else the likelihood."""
        likelihood = log_reward_of_term(terms, LOG_P_REF, rollouts)
        valid = log_reward_of_term(terms, VALID, rollouts)
        terminal_B = torch.where(valid.terminal_B > 0.0, self.constant, likelihood.terminal_B)
        if likelihood.prefix_BT1 is None or valid.prefix_BT1 is None:
            return LogReward(terminal_B)
        return LogReward(terminal_B, torch.where(valid.prefix_BT1 > 0.0, self.constant, likelihood.prefix_BT1))
