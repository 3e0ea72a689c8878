"""Matched accuracy and best temperatures against written loops and known geometry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightning_gfn.reports.runs import load_run
from lightning_gfn.reports.statistics.best import at_best_temperatures
from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap
from lightning_gfn.reports.statistics.cube import Cube
from lightning_gfn.reports.statistics.matched import interpolate, match_accuracy

MakeStudy = Callable[..., Path]
DISTINCT = "distinct_correct_rouge_0.7"


def looped(xs: list[float], ys: list[float], level: float) -> float:
    """The highest crossing of a path, segment by segment."""
    heights = []
    for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), zip(xs[1:], ys[1:], strict=True), strict=False):
        if x0 == x1 == level:
            heights += [y0, y1]
        elif min(x0, x1) <= level <= max(x0, x1):
            heights.append(y0 + (level - x0) / (x1 - x0) * (y1 - y0))
    return max(heights, default=np.nan)


def test_interpolation_equals_a_written_loop() -> None:
    rng = np.random.default_rng(0)
    across, up = rng.random((200, 5)).round(1), rng.random((200, 5))
    for level in (0.1, 0.45, 0.9):
        found = interpolate(across, up, level)
        expected = [looped(x.tolist(), y.tolist(), level) for x, y in zip(across, up, strict=True)]
        assert np.allclose(found, expected, equal_nan=True)
        assert np.isnan(found).any() and np.isfinite(found).any()


def test_the_highest_crossing_counts() -> None:
    across, up = np.array([[0.2, 0.6, 0.2]]), np.array([[1.0, 2.0, 5.0]])
    assert interpolate(across, up, 0.4)[0] == pytest.approx(3.5)
    assert np.isnan(interpolate(across, up, 0.7)[0])


def write_paths(root: Path, paths: dict[str, list[tuple[float, float, float]]], *, stage: str = "test") -> list[Path]:
    """Runs whose every problem has the same solve rate and distinct-correct at each temperature."""
    folders = []
    for name, points in paths.items():
        folder = root / name
        (folder / "results").mkdir(parents=True, exist_ok=True)
        rows = [
            {"problem_id": f"p{n}", "temperature": t, "metrics": {"solve_rate": x, DISTINCT: y}}
            for n in range(6)
            for t, x, y in points
        ]
        (folder / "results" / f"{stage}_problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        identity = {
            "method": name,
            "seed": 0,
            "decoding": {"num_samples": 8, "temperatures": [t for t, _, _ in points]},
            "problems": {"count": 6},
            "metric_settings": {},
        }
        (folder / "results" / f"{stage}_metrics.json").write_text(json.dumps(identity))
        folders.append(folder)
    return folders


PATHS = {
    "base": [(0.5, 0.8, 1.0), (1.0, 0.6, 2.0)],
    "higher": [(0.5, 0.7, 2.5), (1.0, 0.5, 3.5)],
    "weak": [(0.5, 0.4, 9.0), (1.0, 0.2, 9.5)],
}


def test_known_lines_give_known_differences(tmp_path: Path) -> None:
    cube = Cube([load_run(folder) for folder in write_paths(tmp_path, PATHS)])
    found = match_accuracy(cube, "base", HierarchicalBootstrap(num_resamples=50))
    assert found is not None and found.level is None and found.at_level == {}
    higher = found.pairs["higher"]
    assert (higher.low, higher.high) == pytest.approx((0.6, 0.7))
    assert higher.difference is not None
    assert higher.difference.value == pytest.approx(1.0)  # base: 5 - 5x, higher: 6 - 5x
    assert higher.reached == 1.0 and higher.p is not None and higher.p < 0.05
    weak = found.pairs["weak"]
    assert weak.difference is None and weak.high < weak.low
    assert weak.to_json() == {"range": pytest.approx([0.6, 0.4]), "difference": None, "p": None, "reached": 0.0}


def test_a_common_level_is_the_middle_of_the_common_range(tmp_path: Path) -> None:
    paths = {name: PATHS[name] for name in ("base", "higher")}
    cube = Cube([load_run(folder) for folder in write_paths(tmp_path, paths)])
    found = match_accuracy(cube, "base", HierarchicalBootstrap(num_resamples=50))
    assert found is not None and found.level == pytest.approx(0.65)
    assert found.at_level["base"].interval.value == pytest.approx(1.75)
    assert found.at_level["higher"].interval.value == pytest.approx(2.75)


def test_resampled_paths_equal_a_written_loop(make_study: MakeStudy) -> None:
    study = make_study(methods={"sft": (0.9, 1.6), "subtb": (1.2, 2.4)}, num_problems=12)
    runs = [load_run(folder) for folder in sorted(study.iterdir())]
    cube, bootstrap = Cube(runs), HierarchicalBootstrap(num_resamples=40)
    found = match_accuracy(cube, "sft", bootstrap)
    assert found is not None and found.level is not None
    seeds, problems = bootstrap._shares("seeds", 2), bootstrap._shares("problems", 12)
    heights = []
    for b in range(40):
        mean = [
            [float(seeds[b] @ cube.matrix("subtb", m, temperature=t) @ problems[b]) for t in sorted(cube.temperatures)]
            for m in ("solve_rate", DISTINCT)
        ]
        heights.append(looped(mean[0], mean[1], found.level))
    low, high = np.nanpercentile(heights, [2.5, 97.5])
    at = found.at_level["subtb"]
    assert at.interval.low == pytest.approx(low) and at.interval.high == pytest.approx(high)
    assert at.reached == pytest.approx(np.mean(~np.isnan(heights)))


def test_one_temperature_has_no_path(tmp_path: Path) -> None:
    paths = {name: points[:1] for name, points in PATHS.items()}
    cube = Cube([load_run(folder) for folder in write_paths(tmp_path, paths)])
    bootstrap = HierarchicalBootstrap(num_resamples=20)
    assert match_accuracy(cube, "base", bootstrap) is None
    assert at_best_temperatures(cube, "base", bootstrap, margin=0.05, stage="test") is None


def test_best_temperature_is_chosen_on_validation_problems(tmp_path: Path) -> None:
    folders = write_paths(tmp_path, PATHS)
    bootstrap = HierarchicalBootstrap(num_resamples=20)
    on_test = at_best_temperatures(Cube([load_run(f) for f in folders]), "base", bootstrap, margin=0.05, stage="test")
    assert on_test is not None and not on_test.validated
    assert {name: at.temperature for name, at in on_test.methods.items()} == dict.fromkeys(PATHS, 1.0)
    turned = {name: [(1.0, 0.5, 1.0), (0.5, 0.5, 2.0)] for name in ("higher", "weak")}
    turned["base"] = [(1.0, 0.5, 2.0), (0.5, 0.5, 1.0)]
    write_paths(tmp_path, turned, stage="val")
    on_val = at_best_temperatures(Cube([load_run(f) for f in folders]), "base", bootstrap, margin=0.05, stage="test")
    assert on_val is not None and on_val.validated
    higher = on_val.methods["higher"]
    assert higher.temperature == 0.5 and higher.diversity.value == pytest.approx(2.5)
    assert higher.difference is not None and higher.difference.interval.value == pytest.approx(0.5)
    assert higher.equality is not None and higher.equality.difference.value == pytest.approx(0.1)
    (tmp_path / "weak" / "results" / "val_problems.jsonl").unlink()
    partly = at_best_temperatures(Cube([load_run(f) for f in folders]), "base", bootstrap, margin=0.05, stage="test")
    assert partly is not None and not partly.validated
