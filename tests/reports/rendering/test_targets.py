"""Figures of exactness show what the rows hold, and rows that hold something else are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.reports.comparison import Options, compare_runs
from lightning_gfn.reports.rendering.targets import log_calibration, places, target_distribution, targets_of
from lightning_gfn.reports.runs import load_run
from tests.reports.conftest import write_run

WEIGHTS = {"0": 0.0, "10": math.log(2.0), "9": math.log(3.0)}


def run(tmp_path: Path, method: str, seed: int, target: Any) -> Path:
    metrics = {"solve_rate": 0.5, "pass_at_8": 0.5, "total_variation": 0.1 * seed, "target_mass": 1.0}
    rows = [{"problem_id": f"p{n}", "temperature": 1.0, "metrics": metrics, "target": target} for n in range(2)]
    write_run(tmp_path / f"{method}{seed}", rows, method=method, seed=seed, temperatures=[1.0], budget={})
    return tmp_path / f"{method}{seed}"


def comparison(tmp_path: Path, weights: dict[str, float]) -> Any:
    tables = {"flat": [math.log(1 / 3)] * 3, "skewed": [math.log(0.8), math.log(0.1), math.log(0.1)]}
    folders = [
        run(tmp_path, method, seed, {text: [w, q] for (text, w), q in zip(weights.items(), probs, strict=True)})
        for method, probs in tables.items()
        for seed in (0, 1)
    ]
    return compare_runs([load_run(folder) for folder in folders], Options(num_resamples=200))


def test_completions_that_are_numbers_stand_at_their_number() -> None:
    assert places(["0", "10", "9"]) == [0.0, 10.0, 9.0] and places(["a", "10"]) == [0.0, 1.0]


def test_every_method_and_the_target_are_drawn(tmp_path: Path) -> None:
    c = comparison(tmp_path, WEIGHTS)
    assert set(targets_of(c)) == {"p0", "p1"} and {"total_variation", "target_mass"} <= set(c.metrics)
    figure = target_distribution(c)
    assert figure is not None and set(figure.drawings) == {("p0",), ("p1",)}
    drawing = figure.drawings["p0",]
    assert all(name in drawing for name in ("flat", "skewed", "target"))
    calibration = log_calibration(c)
    assert calibration is not None and "log q" in calibration.drawings[()]


def test_a_uniform_target_has_no_calibration_and_runs_without_one_no_figure(tmp_path: Path) -> None:
    assert log_calibration(comparison(tmp_path, dict.fromkeys(WEIGHTS, -1.0))) is None
    folders = [run(tmp_path / "none", method, 0, {}) for method in ("a", "b")]
    assert (
        target_distribution(compare_runs([load_run(folder) for folder in folders], Options(num_resamples=200))) is None
    )


@pytest.mark.parametrize("target", [[1], {"0": 1.0}, {"0": [0.0]}, {"0": [0.0, None]}, {"0": [0.0, 1e6]}])
def test_a_broken_target_is_named(tmp_path: Path, target: Any) -> None:
    with pytest.raises(ValueError, match="field 'target'"):
        load_run(run(tmp_path, "broken", 0, target))
