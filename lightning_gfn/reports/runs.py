"""Read what evaluated runs left in their folders and refuse to compare what was not measured alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gfn.reports.checks import NAME, fault_of_identity, fault_of_row, is_number
from lightning_gfn.reports.faithfulness import METRIC, read_faithfulness
from lightning_gfn.reports.rows import json_rows, read_json
from lightning_gfn.reports.searches import PREFIX, read_searches

COMPARED_SETTINGS = ("problems", "decoding", "metric_settings")

PASSED_OVER = re.compile(r".*\.old-\d+|mlflow_runs")

Values = Mapping[float, Mapping[str, Mapping[str, float]]]
"""Temperature → metric → problem id → value."""


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluated run.

    Args:
        folder: its run folder.
        method: the method's name: given by the user, or from the run's own metadata.
        seed: the run's seed; None if it was not seeded.
        identity: everything of ``<stage>_metrics.json`` except the metrics.
        temperature: the temperature compared.
        values: per-problem values at every temperature of the grid.
        samples: problem id → its row at the temperature compared (samples, verdicts, metadata).
        budget: totals of what training spent, from ``budget.json``; empty if the run kept none.
    """

    folder: Path
    method: str
    seed: int | None
    identity: Mapping[str, Any]
    temperature: float
    values: Values
    samples: Mapping[str, Mapping[str, Any]]
    budget: Mapping[str, float]


def find_runs(path: Path, stage: str) -> list[Path]:
    """The folder itself if it is a run, or every evaluated run below it, in order of name.

    Runs that were set aside (``….old-1``) and downloads of an earlier comparison are passed over.

    Raises:
        FileNotFoundError: there is no evaluated run.
    """
    if (path / "config.yaml").is_file() or (path / "results").is_dir():
        return [path]
    below = sorted(file.parents[1] for file in path.rglob(f"results/{stage}_metrics.json"))
    found = [folder for folder in below if not any(map(PASSED_OVER.fullmatch, folder.relative_to(path).parts))]
    if not found:
        raise FileNotFoundError(
            f"no run with results/{stage}_metrics.json in {path} or below it: give run folders, and evaluate them "
            f"first (lightning-gfn {command_of(stage)})"
        )
    return found


def command_of(stage: str) -> str:
    """The command that makes the results of a stage."""
    return "validate" if stage == "val" else stage


def load_run(
    folder: Path, *, stage: str = "test", temperature: float | None = None, method: str | None = None
) -> EvaluatedRun:
    """Read ``results/<stage>_metrics.json``, ``results/<stage>_problems.jsonl`` and ``budget.json`` of a run folder.

    Proof searches (``results/<stage>_search.json`` and ``.jsonl``) add ``search_solve_rate_b<branching>_n<nodes>``,
    changed rationales (``results/<stage>_faithfulness.jsonl``) ``answer_follows_<change>`` and ``accuracy_<change>``.

    Args:
        folder: the run folder.
        stage: ``test`` or ``val``.
        temperature: which temperature of the grid; the first one if None.
        method: what to call the method; as the run calls itself if None.

    Raises:
        FileNotFoundError: the run has not been evaluated.
        ValueError: a file is malformed, or the run was not evaluated at that temperature.
    """
    remedy = f"evaluate this run first (lightning-gfn {command_of(stage)} --config {folder / 'config.yaml'})"
    results = folder / "results"
    identity = read_json(results / f"{stage}_metrics.json", remedy)
    if (fault := fault_of_identity(identity)) is not None:
        raise ValueError(f"{results / f'{stage}_metrics.json'}: {fault}; {remedy}")
    temperatures = identity["decoding"]["temperatures"]
    chosen = temperature if temperature is not None else temperatures[0]
    if chosen not in temperatures:
        raise ValueError(f"{folder} was evaluated at temperatures {temperatures}, not at {chosen}; choose one of them")
    if method is not None and not NAME[0](method):
        raise ValueError(f"the method's name {method!r} (NAME={folder}) must be {NAME[1]}")
    values, samples = read_rows(
        results / f"{stage}_problems.jsonl", temperatures, chosen, identity["problems"]["count"], remedy
    )
    searched, identity["search"] = read_searches(results, stage)
    added = {**searched, **read_faithfulness(results, stage)}
    return EvaluatedRun(
        folder=folder,
        method=method if method is not None else identity["method"],
        seed=identity.get("seed"),
        identity={key: value for key, value in identity.items() if key != "metrics"},
        temperature=chosen,
        values={temperature: {**found, **added} for temperature, found in values.items()},
        samples=samples,
        budget=read_budget(folder / "budget.json"),
    )


def read_budget(path: Path) -> dict[str, float]:
    """The totals in a ``budget.json``; empty if there is none.

    Raises:
        ValueError: a total is no number of at least 0.
    """
    content = read_json(path, "delete it to compare without budgets") if path.exists() else {}
    for name, value in content.items():
        if isinstance(value, (int, float)) and not (is_number(value) and value >= 0):
            raise ValueError(f"{path}: {name!r} is {value}, expected a number of at least 0; delete the file")
    return {name: float(value) for name, value in content.items() if is_number(value)}


def read_rows(
    path: Path, temperatures: Sequence[float], temperature: float, count: int, remedy: str
) -> tuple[Values, dict[str, dict[str, Any]]]:
    """Per-problem values of each metric at every temperature, and the rows at one temperature.

    Args:
        path: of the rows.
        temperatures: the grid of the run.
        temperature: which of it the rows are kept of.
        count: problems of the run.
        remedy: for errors.

    Raises:
        ValueError: names file and line of a row that is malformed or stands there twice, or problems are missing.
    """
    values: dict[float, dict[str, dict[str, float]]] = {float(t): {} for t in temperatures}
    samples: dict[str, dict[str, Any]] = {}
    lines: dict[tuple[str, float], int] = {}
    for number, row in json_rows(path, remedy):
        fault = fault_of_row(row, list(temperatures))
        if fault is None:
            key = (row["problem_id"], float(row["temperature"]))
            if lines.setdefault(key, number) != number:
                fault = f"problem {key[0]!r} at temperature {key[1]} stands in line {lines[key]} already"
        if fault is not None:
            raise ValueError(f"{path}, line {number}: {fault}; {remedy}")
        found = values[float(row["temperature"])]
        for name, value in row["metrics"].items():
            if value is not None:
                found.setdefault(name, {})[row["problem_id"]] = float(value)
        if row["temperature"] == temperature:
            samples[row["problem_id"]] = row
    for one in temperatures:
        if (held := sum(key[1] == one for key in lines)) != count:
            raise ValueError(f"{path}: {held} problems at temperature {one}, but {count} were measured; {remedy}")
    return values, samples


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
            faults.append(f"{twins}; give one of them, or name their methods apart (NAME={run.folder})")
        both_searched = runs[0].identity["search"] is not None and run.identity["search"] is not None
        for setting in (*COMPARED_SETTINGS, *(["search"] if both_searched else [])):
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


def measured_everywhere(run: EvaluatedRun) -> set[str]:
    """Metrics that have a value for every problem; others depend on what a run solved, searched or looked into."""
    values = {
        name: found
        for name, found in run.values[run.temperature].items()
        if not name.startswith(PREFIX) and METRIC.fullmatch(name) is None
    }
    return {name for name, found in values.items() if len(found) == len(run.samples)}


def asked_metrics(run: EvaluatedRun) -> set[str]:
    """Metrics that were measured, also those without a value since the run solved nothing."""
    return {name for row in run.samples.values() for name in row["metrics"]} | run.values[run.temperature].keys()


def problem_differences(first: EvaluatedRun, other: EvaluatedRun) -> list[str]:
    """Lines that say in which problems or metrics two runs differ."""
    lines = []
    left, right = first.samples.keys(), other.samples.keys()
    if left != right:
        lines.append(
            f"{first.folder} covers {len(left)} problems but {other.folder} {len(right)} "
            f"({min(left ^ right)!r} is in one only)"
        )
    unlike = measured_everywhere(first) ^ measured_everywhere(other)
    unlike -= asked_metrics(first) & asked_metrics(other)
    if unlike and first.identity["metric_settings"] == other.identity["metric_settings"]:
        lines.append(f"{', '.join(sorted(unlike))}: measured in only one of {first.folder} and {other.folder}")
    return lines
