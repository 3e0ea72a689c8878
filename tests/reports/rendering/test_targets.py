"""Figures of exactness show what the rows hold, and rows that hold something else are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.reports.comparison import Options, compare_runs
from lightning_gfn.reports.rendering.tables import sample_notes
from lightning_gfn.reports.rendering.targets import (
    KINDS,
    distribution_plot,
    log_calibration,
    places,
    target_distribution,
    targets_of,
)
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
    assert figure is not None and set(figure.drawings) == {(p, kind) for p in ("p0", "p1") for kind in KINDS}
    drawing = figure.drawings["p0", KINDS[1]]
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


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_problem_gives_no_false_certainty(tmp_path: Path, seeds: int) -> None:
    folders = []
    for method, level in (("a", 0.2), ("b", 0.8)):
        for seed in range(seeds):
            metrics = {"solve_rate": level + 0.01 * seed, "pass_at_8": level}
            rows = [{"problem_id": "p", "temperature": 1.0, "metrics": metrics}]
            write_run(tmp_path / f"{method}{seed}", rows, method=method, seed=seed, temperatures=[1.0], budget={})
            folders.append(tmp_path / f"{method}{seed}")
    c = compare_runs([load_run(folder) for folder in folders], Options(num_resamples=500))
    (note,) = sample_notes(c)
    p_value = c.differences["b"]["solve_rate"].p
    assert (p_value == 1.0) == (seeds == 1) and ("seeds alone" in note) == (seeds == 3)


def test_the_logarithmic_scale_is_beside_the_target() -> None:
    table = {text: [weight, math.log(0.25)] for text, weight in WEIGHTS.items()}  # Z = 6: p = 1/6, 1/3, 1/2
    plot = distribution_plot({"m": [table]}, KINDS[1])
    assert [(p.x, p.y) for p in plot.series[0].points] == [
        (0.0, pytest.approx(math.log2(0.25 * 6))), (9.0, pytest.approx(-1.0)), (10.0, pytest.approx(math.log2(0.75)))
    ]  # fmt: skip
    assert [p.y for p in plot.series[1].points] == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
