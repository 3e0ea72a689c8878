"""Accuracy of the problems of each group, where their metadata names one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning_gfn.metrics.accuracy import MajorityAtK, SolveRate
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.types import EvalRecord


class AccuracyByGroup(PerProblemMetric):
    """Solve rate and majority vote of each group of problems: ``solve_rate_operands_5``, ``maj_at_10_operands_5``.

    Args:
        field: column of ``Problem.metadata`` that names the group.
        groups: its values; problems of another have no value.
        k: samples that vote; at most as many as are drawn.

    Raises:
        ValueError: no group is named, or k is below 1.
    """

    def __init__(self, field: str, groups: Sequence[int | str], k: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not groups or k < 1:
            raise ValueError(f"AccuracyByGroup: groups={list(groups)} must not be empty, k={k} must be at least 1")
        self.field, self.groups, self.k = field, tuple(groups), k

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(
            f"{name}_{self.field}_{group}" for group in self.groups for name in ("solve_rate", f"maj_at_{self.k}")
        )

    def row(self, record: EvalRecord) -> Sequence[float]:
        own = record.problem.metadata.get(self.field)
        values = [math.nan, math.nan]
        if own in self.groups:
            if self.k > len(record.correct):
                raise ValueError(
                    f"AccuracyByGroup: k={self.k}, but problem {record.problem.id!r} has {len(record.correct)} "
                    "samples: lower k or raise model.evaluation.num_samples"
                )
            values = [*SolveRate().row(record), *MajorityAtK((self.k,)).row(record)]
        return [value for group in self.groups for value in (values if group == own else (math.nan, math.nan))]
