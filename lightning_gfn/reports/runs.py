"""Read what evaluated runs left in their folders and refuse to compare what was not measured alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPARED_SETTINGS = ("problems", "decoding", "metric_settings")
CONDITIONAL = "_solved"
"""Ending of metrics over solved problems only: their problems differ by method, so they cannot be paired."""


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluated run.

    Args:
        folder: its run folder.
        method: the method's name, from the run's own metadata.
        seed: the run's seed; None if it was not seeded.
        identity: everything of ``<stage>_metrics.json`` except the metrics.
        values: metric name → problem id → value, at the temperature compared.
        budget: what training spent, from ``budget.json``; empty if the run kept none.
    """

    folder: Path
    method: str
    seed: int | None
    identity: Mapping[str, Any]
    values: Mapping[str, Mapping[str, float]]
    budget: Mapping[str, float]


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        FileNotFoundError: there is no such file; ``remedy`` says what makes it.
        ValueError: the file is not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}); evaluate the run again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}; evaluate the run again")
    return value


def load_run(folder: Path, *, stage: str = "test", temperature: float | None = None) -> EvaluatedRun:
    """Read ``results/<stage>_metrics.json``, ``results/<stage>_problems.jsonl`` and ``budget.json`` of a run folder.

    Args:
        folder: the run folder.
        stage: ``test`` or ``val``.
        temperature: which temperature of the grid; the first one if None.

    Raises:
        FileNotFoundError: the run has not been evaluated.
        ValueError: a file is malformed, or the run was not evaluated at that temperature.
    """
    command = "validate" if stage == "val" else stage
    remedy = f"evaluate this run first (lightning-gfn {command} --config {folder / 'config.yaml'})"
    results = folder / "results"
    identity = read_json(results / f"{stage}_metrics.json", remedy)
    for field in ("method", *COMPARED_SETTINGS):
        if field not in identity:
            raise ValueError(f"{results / f'{stage}_metrics.json'}: field {field!r} is missing; {remedy}")
    temperatures = identity["decoding"]["temperatures"]
    chosen = temperature if temperature is not None else temperatures[0]
    if chosen not in temperatures:
        raise ValueError(f"{folder} was evaluated at temperatures {temperatures}, not at {chosen}; choose one of them")
    budget = folder / "budget.json"
    return EvaluatedRun(
        folder=folder,
        method=identity["method"],
        seed=identity.get("seed"),
        identity={key: value for key, value in identity.items() if key != "metrics"},
        values=read_values(results / f"{stage}_problems.jsonl", chosen, remedy),
        budget=read_json(budget, "") if budget.is_file() else {},
    )


def read_values(path: Path, temperature: float, remedy: str) -> dict[str, dict[str, float]]:
    """Per-problem values of each metric at one temperature; conditional ones are left out."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {remedy}")
    values: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                if row["temperature"] != temperature:
                    continue
                for name, value in row["metrics"].items():
                    if value is not None and not name.endswith(CONDITIONAL):
                        values.setdefault(name, {})[row["problem_id"]] = float(value)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: malformed row ({error!r}); {remedy}") from error
    return values


def flatten(value: Any, prefix: str) -> dict[str, Any]:
    """Nested mappings as dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {name: leaf for key, item in value.items() for name, leaf in flatten(item, f"{prefix}.{key}").items()}


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Make sure that all runs saw the same problems, decoding and metric settings, and that none is given twice.

    Raises:
        ValueError: naming each run and setting that differs.
    """
    if len({run.method for run in runs}) < 2:
        raise ValueError("a comparison needs runs of at least two methods: give more runs, or set model.method in each")
    seen: dict[tuple[str, int | None], EvaluatedRun] = {}
    faults: list[str] = []
    for run in runs:
        other = seen.setdefault((run.method, run.seed), run)
        if other is not run:
            twins = f"{other.folder} and {run.folder} are both method {run.method!r} with seed {run.seed}"
            faults.append(f"{twins}; give one of them")
        for setting in COMPARED_SETTINGS:
            faults += differences(runs[0], run, setting)
        faults += problem_differences(runs[0], run)
    if faults:
        raise ValueError("these runs cannot be compared:\n  " + "\n  ".join(faults))


def differences(first: EvaluatedRun, other: EvaluatedRun, setting: str) -> list[str]:
    """A line for each leaf of a setting in which two runs differ."""
    left, right = flatten(first.identity[setting], setting), flatten(other.identity[setting], setting)
    return [
        f"{name} is {left.get(name)!r} in {first.folder} but {right.get(name)!r} in {other.folder}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def problem_differences(first: EvaluatedRun, other: EvaluatedRun) -> list[str]:
    """A line for each metric that two runs hold for different problems."""
    lines = []
    for name in sorted(first.values.keys() | other.values.keys()):
        left, right = first.values.get(name, {}).keys(), other.values.get(name, {}).keys()
        if left != right:
            example = min(left ^ right)
            lines.append(
                f"{name} covers {len(left)} problems in {first.folder} but {len(right)} in {other.folder} "
                f"({example!r} is in one only)"
            )
    return lines
