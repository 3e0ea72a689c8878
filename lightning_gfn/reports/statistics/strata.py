"""The headline metrics for each value of a field of the data: level, subject and so on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap, Interval
from lightning_gfn.reports.statistics.contrasts import contrast
from lightning_gfn.reports.statistics.cube import Cube
from lightning_gfn.reports.statistics.significance import Difference

MAX_VALUES = 12
MIN_PROBLEMS = 2


@dataclass(frozen=True)
class Stratum:
    """The problems that share a value of a field.

    Args:
        value: the value, as text.
        problems: how many problems.
        methods: method → headline metric → interval.
        differences: method → headline metric → difference to the baseline (p-values not corrected).
    """

    value: str
    problems: int
    methods: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Difference]]

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {
            "value": self.value,
            "problems": self.problems,
            "methods": {name: {m: x.to_json() for m, x in row.items()} for name, row in self.methods.items()},
            "differences": {name: {m: x.to_json() for m, x in row.items()} for name, row in self.differences.items()},
        }


@dataclass(frozen=True)
class Strata:
    """All strata.

    Args:
        fields: field → its strata.
        left_out: fields with too many values, or too few problems a value, for a table.
    """

    fields: dict[str, list[Stratum]]
    left_out: list[str]

    def to_json(self) -> dict[str, Any]:
        """The form of ``comparison.json``."""
        return {
            "fields": {name: [stratum.to_json() for stratum in found] for name, found in self.fields.items()},
            "left_out": self.left_out,
        }


def partitions(cube: Cube) -> tuple[dict[str, dict[Any, list[str]]], list[str]]:
    """Field → value → problems, for fields with 2 to 12 values; and the fields with more."""
    samples = next(iter(cube.groups.values()))[0].samples
    names = list(dict.fromkeys(name for row in samples.values() for name in row.get("metadata", {})))
    chosen: dict[str, dict[Any, list[str]]] = {}
    left_out = []
    for name in names:
        parts: dict[Any, list[str]] = {}
        for problem in cube.problems:
            parts.setdefault(samples[problem].get("metadata", {}).get(name), []).append(problem)
        if len(parts) > MAX_VALUES or min(map(len, parts.values())) < MIN_PROBLEMS:
            left_out.append(name)
        elif len(parts) > 1:
            chosen[name] = dict(sorted(parts.items(), key=lambda item: sort_key(item[0])))
    return chosen, left_out


def sort_key(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then texts, then nothing."""
    if isinstance(value, (int, float)):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


def stratify(cube: Cube, baseline: str, bootstrap: HierarchicalBootstrap) -> Strata:
    """Tables for each field of the problems' metadata.

    Args:
        cube: the values.
        baseline: the method that the others are compared with.
        bootstrap: draws the resamples.
    """
    chosen, left_out = partitions(cube)
    metrics = cube.headline()

    def measured(metric: str, problems: list[str]) -> list[str]:
        return sorted(set(problems) & set(cube.measured_problems(metric) or ()))

    def stratum(value: Any, problems: list[str]) -> Stratum:
        over = {metric: known for metric in metrics if (known := measured(metric, problems))}
        return Stratum(
            "none" if value is None else str(value),
            len(problems),
            {
                name: {m: bootstrap.interval(cube.matrix(name, m, problems=known)) for m, known in over.items()}
                for name in cube.methods
            },
            {
                name: {m: contrast(cube, bootstrap, name, baseline, m, problems=known) for m, known in over.items()}
                for name in cube.methods
                if name != baseline
            },
        )

    fields = {name: [stratum(value, problems) for value, problems in parts.items()] for name, parts in chosen.items()}
    return Strata(fields, left_out)
