"""Spending of the methods in training, and the axes on which they spent alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_gfn.reports.runs import EvaluatedRun

TOLERANCE = 0.05


@dataclass(frozen=True)
class Spending:
    """Costs by method and axis.

    Args:
        methods: method → axis → total, mean over seeds; without the methods that kept no account.
        equalised: axis → whether all methods that spent anything on it are within 5% of the highest.
        without: methods whose runs kept no account.
    """

    methods: dict[str, dict[str, float]]
    equalised: dict[str, bool]
    without: list[str]

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {"equalised": self.equalised, "tolerance": TOLERANCE, "without": self.without}


def mean_budget(runs: Sequence[EvaluatedRun]) -> dict[str, float]:
    """What training spent, mean over the runs of a method; empty if a run kept no account."""
    if not all(run.budget for run in runs):
        return {}
    axes = [name for name in runs[0].budget if all(name in run.budget for run in runs)]
    return {name: float(np.mean([run.budget[name] for run in runs])) for name in axes}


def spending(groups: Mapping[str, Sequence[EvaluatedRun]]) -> Spending:
    """Mean costs of each method and the axes on which the methods that spent anything agree within 5%.

    A method that spends nothing on an axis (a supervised model samples nothing) was given no budget there.

    Args:
        groups: method → its runs.
    """
    methods = {name: spent for name, runs in groups.items() if (spent := mean_budget(runs))}
    axes = list(dict.fromkeys(axis for spent in methods.values() for axis in spent))
    equalised = {}
    for axis in axes:
        found = [spent.get(axis, np.nan) for spent in methods.values() if spent.get(axis) != 0.0]
        equalised[axis] = not found or bool(max(found) - min(found) <= TOLERANCE * max(found))
    return Spending(methods, equalised, [name for name in groups if name not in methods])
