"""Learning curves from the figures that runs logged, over steps and over each axis of the budget."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.statistics.bootstrap import Array
from lightning_gfn.reports.titles import AXES

TRAIN = "train/solve_rate_on_policy"
WINDOW = 5
GRID = 50


@dataclass(frozen=True)
class Curve:
    """A figure of one method along one axis, mean over its seeds.

    Args:
        x: places on the axis.
        mean: mean over seeds.
        low: lowest seed.
        high: highest seed.
    """

    x: Array
    mean: Array
    low: Array
    high: Array


def logged_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a line that a kill cut in two is left out."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def histories(path: Path, keys: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Key → its values, each with what had been spent by then."""
    spent: dict[str, float] = {}
    found: dict[str, list[dict[str, float]]] = {key: [] for key in keys}
    for row in logged_rows(path):
        new = {name.removeprefix("budget/"): value for name, value in row.items() if name.startswith("budget/")}
        spent |= {name: float(value) for name, value in new.items() if value is not None}
        for key in keys:
            if row.get(key) is not None:
                found[key].append({**spent, "step": float(row.get("step") or 0), "value": float(row[key])})
    return found


def running_mean(values: Array, window: int) -> Array:
    """Mean of the last ``window`` values, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: Array = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def along_axis(runs: Sequence[list[dict[str, float]]], axis: str, window: int) -> Curve | None:
    """Seeds brought to common places of an axis by straight lines; None if they share no stretch of it."""
    paths = []
    for history in runs:
        known = [point for point in history if axis in point]
        if len(known) < 2:
            return None
        x, y = (np.array([point[name] for point in known]) for name in (axis, "value"))
        paths.append((x, running_mean(y, window)))
    start, end = max(x[0] for x, _ in paths), min(x[-1] for x, _ in paths)
    if not paths or end <= start:
        return None
    alike = all(len(x) == len(paths[0][0]) and np.array_equal(x, paths[0][0]) for x, _ in paths)
    places = paths[0][0] if alike and len(paths[0][0]) <= GRID else np.linspace(start, end, GRID)
    values = np.stack([np.interp(places, x, y) for x, y in paths])
    return Curve(places, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def learning_curves(c: Comparison) -> dict[str, dict[str, dict[str, Curve]]]:
    """Figure → axis → method → curve, for the training solve rate and the headline metrics on validation problems."""
    keys = [*(f"val/{metric}" for metric in c.metrics), TRAIN]
    known = {
        name: [histories(run.folder / "metrics.jsonl", keys) for run in group] for name, group in c.cube.groups.items()
    }
    table: dict[str, dict[str, dict[str, Curve]]] = {}
    for key in keys:
        for axis in ("step", *(axis for axis in AXES if axis != "peak_memory_mib")):
            for name, runs in known.items():
                curve = along_axis([run[key] for run in runs], axis, WINDOW if key == TRAIN else 1)
                if curve is not None:
                    table.setdefault(key, {}).setdefault(axis, {})[name] = curve
    return table
