"""The column that says which trajectories solve their problem the same way."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Rollouts


def class_column(classes: SolutionClasses, rollouts: Rollouts) -> Tensor:
    """Classes of completions as numbers, counted from 0 within each problem; -1 for those of no class.

    The completions of a problem are labelled together, so that clusters serve as well.

    Args:
        classes: label the completions of one problem.
        rollouts: B trajectories of any number of problems.

    Returns:
        (B,) int64.
    """
    group_B = rollouts.problem_index_B
    class_B = torch.full((rollouts.num_trajectories,), -1, dtype=torch.int64)
    for p, problem in enumerate(rollouts.problems):
        rows = (group_B == p).nonzero().squeeze(1).tolist()
        labels = classes.labels(problem, [rollouts.completions[b] for b in rows]) if rows else []
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels)) if label is not None}
        for b, label in zip(rows, labels, strict=True):
            class_B[b] = -1 if label is None else numbers[label]
    return class_B.to(group_B.device)
