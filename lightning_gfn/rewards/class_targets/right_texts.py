"""Which completions, or prefixes of them, are right, and to which class each right one belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Judgement:
    """Verdicts on B trajectories, or on their prefixes, and the classes of what is right.

    Args:
        right: (B,) or (B, T + 1), ones and zeros.
        correct_B: bool, verdicts on the whole trajectories.
        labels: of each problem, the class of each right text.
        texts: of each trajectory, its right texts, by the prefix that they are (its last column for whole ones).
    """

    right: Tensor
    correct_B: Tensor
    labels: list[dict[str, str | None]]
    texts: list[dict[int, str]]

    def spread(self, values_of: Callable[[Problem, Sequence[str | None]], list[float]], rollouts: Rollouts) -> Tensor:
        """A number for each right text, in the shape of ``right``, 0 elsewhere.

        Args:
            values_of: from a problem and labels to numbers.
            rollouts: that were judged.
        """
        tables: list[dict[str, float]] = []
        for problem, labels in zip(rollouts.problems, self.labels, strict=True):
            numbers = values_of(problem, list(labels.values())) if labels else []
            tables.append(dict(zip(labels, numbers, strict=True)))
        width = 1 if self.right.dim() == 1 else self.right.shape[1]
        rows = [
            [tables[p][texts[column]] if column in texts else 0.0 for column in range(width)]
            for p, texts in zip(rollouts.problem_index_B.tolist(), self.texts, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float32, device=self.right.device).reshape(self.right.shape)


def judged(
    rollouts: Rollouts, policy: Policy, success: Reward, classes: SolutionClasses, *, prefixes: bool
) -> Judgement:
    """Ask a reward of zeros and ones which texts are right, and the classes about those.

    Args:
        rollouts: B trajectories.
        policy: decodes prefixes.
        success: the reward.
        classes: the classes.
        prefixes: judge all T + 1 prefixes.

    Raises:
        ValueError: the reward has several terms or gives no verdicts.
    """
    terms, correct_B = success.terms(rollouts, policy, prefixes=prefixes)
    if len(terms) != 1 or correct_B is None:
        raise ValueError(
            f"reward.success: {type(success).__name__} does not say which completions are right by one term; use "
            "AnswerMatch or ProofSuccess"
        )
    (right,) = ((values >= 1.0).float() for values in terms.values())
    texts = right_texts(right, rollouts, policy)
    of_problem: list[dict[str, None]] = [{} for _ in rollouts.problems]
    for p, own in zip(rollouts.problem_index_B.tolist(), texts, strict=True):
        of_problem[p] |= dict.fromkeys(own.values())
    labels: list[dict[str, str | None]] = [
        dict(zip(different, classes.labels(problem, list(different)), strict=True)) if different else {}
        for problem, different in zip(rollouts.problems, of_problem, strict=True)
    ]
    return Judgement(right, correct_B, labels, texts)


def right_texts(right: Tensor, rollouts: Rollouts, policy: Policy) -> list[dict[int, str]]:
    """The right texts of each trajectory by column of ``right``; columns behind the end hold the whole text again."""
    if right.dim() == 1:
        return [
            {0: text} if is_right else {}
            for text, is_right in zip(rollouts.completions, right.bool().tolist(), strict=True)
        ]
    found: list[dict[int, str]] = []
    for row, action, whole in zip(right.bool().tolist(), rollouts.action_lists(), rollouts.completions, strict=True):
        columns = [column for column, is_right in enumerate(row) if is_right]
        found.append({c: policy.decode(action[:c]) if c < len(action) else whole for c in columns})
    return found
