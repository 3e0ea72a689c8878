"""Each method at its own best temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_gfn.reports.rows import json_rows
from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap, Interval
from lightning_gfn.reports.statistics.contrasts import contrast, equality
from lightning_gfn.reports.statistics.cube import ACCURACY, Cube
from lightning_gfn.reports.statistics.significance import Difference, Equality


@dataclass(frozen=True)
class AtBest:
    """A method at its best temperature.

    Args:
        temperature: where its mean of distinct-correct is highest.
        accuracy: solve rate there.
        diversity: distinct-correct there.
        difference: of distinct-correct to the baseline at the baseline's best temperature; None for the baseline.
        equality: of the solve rates at these two temperatures; None for the baseline.
    """

    temperature: float
    accuracy: Interval
    diversity: Interval
    difference: Difference | None
    equality: Equality | None

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {
            "temperature": self.temperature,
            "accuracy": self.accuracy.to_json(),
            "diversity": self.diversity.to_json(),
            "difference": self.difference.to_json() if self.difference is not None else None,
            "equality": self.equality.to_json() if self.equality is not None else None,
        }


@dataclass(frozen=True)
class BestTemperatures:
    """All methods at their best temperatures.

    Args:
        validated: True if the temperatures were chosen on validation problems, False if on the compared ones.
        methods: method → what it reaches.
    """

    validated: bool
    methods: dict[str, AtBest]

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {
            "chosen_on_validation": self.validated,
            "methods": {name: at.to_json() for name, at in self.methods.items()},
        }


def validation_means(cube: Cube, method: str, metric: str) -> dict[float, float]:
    """Mean of a metric on the validation problems at each temperature of the grid that all runs of a method have."""
    found: list[dict[float, list[float]]] = []
    for run in cube.groups[method]:
        path = run.folder / "results" / "val_problems.jsonl"
        values: dict[float, list[float]] = {}
        for _, row in json_rows(path, "") if path.is_file() else ():
            value = row.get("metrics", {}).get(metric)
            if value is not None and row.get("temperature") in cube.temperatures:
                values.setdefault(row["temperature"], []).append(value)
        found.append(values)
    shared = [t for t in cube.temperatures if all(t in values for values in found)]
    return {t: float(np.mean([np.mean(values[t]) for values in found])) for t in shared}


def at_best_temperatures(
    cube: Cube, baseline: str, bootstrap: HierarchicalBootstrap, *, margin: float, stage: str
) -> BestTemperatures | None:
    """Each method at the temperature where it finds most distinct correct solutions.

    The temperature is chosen on the validation problems if every method was validated at two temperatures or more, else
    on the compared problems themselves, which flatters every method alike.

    Args:
        cube: the values.
        baseline: the method that the others are compared with.
        bootstrap: draws the resamples.
        margin: differences of the solve rate up to this one do not matter.
        stage: the stage compared.
    """
    metric = cube.diversity()
    if metric is None or len(cube.temperatures) < 2 or not cube.is_on_grid(metric):
        return None
    means = {name: validation_means(cube, name, metric) for name in cube.methods} if stage == "test" else {}
    validated = bool(means) and all(len(found) > 1 for found in means.values())
    if not validated:
        means = {
            name: {t: float(cube.matrix(name, metric, temperature=t).mean()) for t in cube.temperatures}
            for name in cube.methods
        }
    best = {name: max(found, key=lambda t: found[t]) for name, found in means.items()}

    def at(name: str) -> AtBest:
        pair = (best[name], best[baseline])
        other = name != baseline
        return AtBest(
            best[name],
            bootstrap.interval(cube.matrix(name, ACCURACY, temperature=best[name])),
            bootstrap.interval(cube.matrix(name, metric, temperature=best[name])),
            contrast(cube, bootstrap, name, baseline, metric, temperatures=pair) if other else None,
            equality(cube, bootstrap, name, baseline, margin=margin, temperatures=pair) if other else None,
        )

    return BestTemperatures(validated, {name: at(name) for name in cube.methods})
