"""Ratios that a change must keep, for each kind of processor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "baselines.json"
LARGEST_FALL = 0.15
ANY_KIND = "any"


def load(path: Path = FILE) -> dict[str, dict[str, float]]:
    """Ratios by kind of processor and name of the row.

    Raises:
        ValueError: the file is no such table.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    for kind, ratios in content.items():
        for name, value in ratios.items():
            if not isinstance(value, (int, float)) or value <= 0:
                raise ValueError(f"{path}: {kind}.{name} is {value!r}, expected a ratio above 0")
    return content


def baseline_of(name: str, kind: str, baselines: Mapping[str, Mapping[str, float]]) -> float | None:
    """The ratio of a row on this kind of processor; None if there is none."""
    return baselines.get(kind, {}).get(name, baselines.get(ANY_KIND, {}).get(name))


def faults(results: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Rows whose ratio fell by more than ``LARGEST_FALL``, and rows that failed.

    Times are never compared: a ratio is of one run, and only ratios are held against the baseline.

    Args:
        results: the file of a run.
        baselines: ratios by kind of processor.
    """
    kind, found = results["machine"]["kind"], []
    for row in results["rows"]:
        name = row["name"]
        before = baseline_of(name, kind, baselines)
        if row["status"] == "failed":
            found.append(f"{name} failed: {row['reason']}")
        elif before is not None and row.get("ratio") is not None and row["ratio"] < (1.0 - LARGEST_FALL) * before:
            fall = 100 * (1.0 - row["ratio"] / before)
            found.append(f"{name}: ratio {row['ratio']:.2f}, {fall:.0f}% below the baseline {before:.2f} ({kind})")
    return found


def unchecked(results: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Rows that the check says nothing about, each with the reason."""
    kind, found = results["machine"]["kind"], []
    for row in results["rows"]:
        if row["status"] == "not run":
            found.append(f"{row['name']}: not run: {row['reason']}")
        elif row.get("ratio") is not None and baseline_of(row["name"], kind, baselines) is None:
            found.append(f"{row['name']}: no baseline for a processor of kind {kind}")
    return found


def updated(results: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The baselines with the ratios of this run for its kind of processor."""
    kind = results["machine"]["kind"]
    ratios = {row["name"]: round(row["ratio"], 3) for row in results["rows"] if row.get("ratio") is not None}
    changed = {name: dict(values) for name, values in baselines.items()}
    changed[kind] = dict(sorted({**changed.get(kind, {}), **ratios}.items()))
    return changed
