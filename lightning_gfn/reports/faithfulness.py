"""What a run measured of its rationales: does the answer follow them when they are changed?"""

from __future__ import annotations

import re
from pathlib import Path

from lightning_gfn.reports.checks import is_number, is_text
from lightning_gfn.reports.rows import json_rows

CHANGES = ("truncated", "corrupted", "swapped")
"""Changes of a rationale, in the order of tables."""
METRIC = re.compile(rf"answer_follows_(?:{'|'.join(CHANGES)})|accuracy_(?:intact|{'|'.join(CHANGES)})")
"""Metrics of changed rationales."""


def read_faithfulness(results: Path, stage: str) -> dict[str, dict[str, float]]:
    """``answer_follows_<change>`` and ``accuracy_<change>`` by problem, from ``<stage>_faithfulness.jsonl``.

    Args:
        results: folder of a run.
        stage: ``test`` or ``val``.

    Returns:
        values by metric and problem id; nothing if the run did not look at them.

    Raises:
        ValueError: names file, line and field of a malformed row.
    """
    path = results / f"{stage}_faithfulness.jsonl"
    if not path.is_file() or not path.read_bytes().strip():  # empty: no completion had a rationale and an answer
        return {}
    remedy = "evaluate again (the callback lightning_gfn.callbacks.faithfulness.Faithfulness)"
    values: dict[str, dict[str, float]] = {}
    for number, row in json_rows(path, remedy):
        problem, metrics = row.get("problem_id", ""), row.get("metrics")
        if not is_text(problem) or not isinstance(metrics, dict):
            raise ValueError(f"{path}, line {number}: 'problem_id' or 'metrics' is missing or malformed; {remedy}")
        for name, value in metrics.items():
            if METRIC.fullmatch(name) is None or not is_number(value):
                raise ValueError(f"{path}, line {number}: metric {name!r} is {value!r}; {remedy}")
            if problem in values.setdefault(name, {}):
                raise ValueError(f"{path}, line {number}: problem {problem!r} stands there twice; {remedy}")
            values[name][problem] = float(value)
    return values
