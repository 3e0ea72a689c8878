"""Is the final answer right? A 0/1 term for the finished trajectory, or for the answer read off every prefix."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from lightning_gfn.answers import extract_answer, first_answer_position, is_equivalent
from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.prefixes import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM = "correct"


class AnswerMatch(Reward):
    """1 if the extracted final answer is equivalent to the problem's reference answer, else 0.

        correct(z_1:i) = 1[answer in the text of z_1:i ≡ reference answer]

    ``Problem.answer_style`` says how answers are written. Alone, as the reward of a reward-maximising method, the term
    itself is the reward; inside ``SumReward`` its weight is the log-reward bonus of a right answer.
    """

    provides = frozenset({"log_reward_B", "log_reward_BT1"})

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Check the answers.

        Args:
            rollouts: B trajectories.
            policy: decodes prefixes.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``{"correct": …}`` of zeros and ones, and the verdicts on the whole completions.

        Raises:
            ValueError: if a problem has no reference answer.
        """
        problems = [rollouts.problems[p] for p in rollouts.problem_index_B.tolist()]
        verdicts = [_is_correct(text, problem) for text, problem in zip(rollouts.completions, problems, strict=True)]
        correct_B = torch.tensor(verdicts, dtype=torch.bool, device=rollouts.action_mask_NT.device)
        if not prefixes:
            return {TERM: correct_B.float()}, correct_B
        require_single_step(rollouts, type(self).__name__)
        rows = [
            prefix_verdicts(ids, problem, policy)
            for ids, problem in zip(rollouts.action_lists(), problems, strict=True)
        ]
        return {TERM: pad_prefix_values(rows, rollouts)}, correct_B

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, step: int) -> LogReward:
        """The term itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)


def prefix_verdicts(action: Sequence[int], problem: Problem, policy: Policy) -> list[float]:
    """1.0 where the answer read off a prefix is right, else 0.0, for the T + 1 prefixes of an action.

    Prefixes without an answer marker are skipped by bisection; where the answer does not change from one prefix to the
    next, neither does the verdict.
    """

    def has_marker(end: int) -> bool:
        return first_answer_position(policy.decode(action[:end]), problem.answer_style) is not None

    first = bisect_left(range(len(action) + 1), True, key=has_marker)
    verdicts = [0.0] * first
    answer, verdict = None, 0.0
    for end in range(first, len(action) + 1):
        found = extract_answer(policy.decode(action[:end]), problem.answer_style)
        if found != answer:
            answer, verdict = found, float(is_equivalent(found, _reference_answer(problem)))
        verdicts.append(verdict)
    return verdicts


def _is_correct(completion: str, problem: Problem) -> bool:
    return is_equivalent(extract_answer(completion, problem.answer_style), _reference_answer(problem))


def _reference_answer(problem: Problem) -> str:
    if problem.answer is None:
        raise ValueError(
            f"problem '{problem.id}' has no reference answer, so AnswerMatch cannot check it; choose another reward"
        )
    return problem.answer
