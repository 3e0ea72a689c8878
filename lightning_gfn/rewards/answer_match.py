"""Is the final answer right? A 0/1 term for the finished trajectory, or for the answer read off every prefix."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from lightning_gfn.answers import are_equivalent, extract_answer, first_answer_position
from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
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

    is_constant = True
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
        attempts = list(zip(problems, rollouts.completions, strict=True))
        verdicts = are_equivalent(
            [(extract_answer(text, problem.answer_style), _reference_answer(problem)) for problem, text in attempts]
        )
        correct_B = torch.tensor(verdicts, dtype=torch.bool, device=rollouts.action_mask_NT.device)
        if not prefixes:
            judged = [self.judge(*attempt, correct) for attempt, correct in zip(attempts, verdicts, strict=True)]
            return {TERM: torch.tensor(judged, dtype=torch.float32, device=correct_B.device)}, correct_B
        require_single_step(rollouts, type(self).__name__)
        rows = [
            prefix_verdicts(ids, problem, policy, self.judge)
            for ids, problem in zip(rollouts.action_lists(), problems, strict=True)
        ]
        return {TERM: pad_prefix_values(rows, rollouts)}, correct_B

    def judge(self, problem: Problem, completion: str, correct: bool) -> bool:
        """What the reward makes of a true verdict on a text; here the verdict itself."""
        return correct

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The term itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)


def prefix_verdicts(
    action: Sequence[int], problem: Problem, policy: Policy, judge: Callable[[Problem, str, bool], bool]
) -> list[float]:
    """1.0 where the answer read off a prefix is judged right, else 0.0, for the T + 1 prefixes of an action.

    Prefixes without an answer marker are skipped by bisection; each answer is checked once, and all of them together.

    Args:
        action: T tokens.
        problem: whose answer it is.
        policy: decodes prefixes.
        judge: from problem, text and the checked verdict to the verdict that counts.
    """

    def has_marker(end: int) -> bool:
        return first_answer_position(policy.decode(action[:end]), problem.answer_style) is not None

    first = bisect_left(range(len(action) + 1), True, key=has_marker)
    texts = [policy.decode(action[:end]) for end in range(first, len(action) + 1)]
    answers = [extract_answer(text, problem.answer_style) for text in texts]
    distinct = list(dict.fromkeys(answer for answer in answers if answer is not None))
    verdicts = are_equivalent([(answer, _reference_answer(problem)) for answer in distinct])
    right = {answer for answer, correct in zip(distinct, verdicts, strict=True) if correct}
    return [0.0] * first + [
        float(judge(problem, text, answer in right)) for text, answer in zip(texts, answers, strict=True)
    ]


def _reference_answer(problem: Problem) -> str:
    if problem.answer is None:
        raise ValueError(
            f"problem '{problem.id}' has no reference answer, so AnswerMatch cannot check it; choose another reward"
        )
    return problem.answer
