"""Evaluated run folders, written by hand from given per-problem values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DISTINCT = ("distinct_correct_rouge_0.5", "distinct_correct_rouge_0.7")
METRICS = ("solve_rate", "pass_at_8", "maj_at_8", *DISTINCT, "coverage")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder: ``values[metric][problem]``, by default drawn around ``level`` from the seed."""

    def build(method: str, seed: int = 0, *, level: float = 0.5, num_problems: int = 40, **identity: Any) -> Path:
        rng = np.random.default_rng([seed, *method.encode()])
        folder = tmp_path / f"{method}-s{seed}"
        (folder / "results").mkdir(parents=True)
        rows = []
        for problem in range(num_problems):
            rate = float(np.clip(level + 0.3 * rng.standard_normal(), 0, 1))
            values = dict.fromkeys(METRICS, rate)
            values["distinct_correct_rouge_0.7"] = 5 * rate * (1 - 0.5 * rate)
            values["distinct_correct_rouge_0.5"] = 3 * rate * (1 - 0.5 * rate)
            rows.append({"problem_id": f"p{problem}", "temperature": 1.0, "metrics": values})
            rows.append({"problem_id": f"p{problem}", "temperature": 0.6, "metrics": {"solve_rate": 1.0}})
        decoding = {"num_samples": 8, "temperatures": [1.0, 0.6], "top_k": None, "top_p": None, "seed": 0}
        content = {
            "stage": "test",
            "method": method,
            "seed": seed,
            "decoding": decoding,
            "metric_settings": {"ks": [1, 8], "thresholds": [0.5, 0.7]},
            "problems": {"count": num_problems, "fingerprint": f"n{num_problems}"},
            "parameters": 612_000,
            **identity,
            "metrics": {},
        }
        (folder / "results" / "test_metrics.json").write_text(json.dumps(content))
        (folder / "results" / "test_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "budget.json").write_text(json.dumps({"generated_tokens": 1000 + seed, "wall_seconds": 60.5}))
        return folder

    return build
