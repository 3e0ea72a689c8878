"""The figure of solve rate against temperature: a line a method, and the best expert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.files import write_comparison
from lightning_gfn.reports.rendering import figure
from lightning_gfn.reports.statistics.bootstrap import Interval


def test_several_temperatures_have_a_figure(make_study: Callable[..., Path], tmp_path: Path) -> None:
    write_comparison([make_study(seeds=(0,), num_problems=4)], tmp_path / "many", html=False)
    assert (tmp_path / "many" / "temperatures.png").read_bytes().startswith(b"\x89PNG")
    write_comparison([make_study(seeds=(0,), num_problems=4, temperatures=(1.0,))], tmp_path / "one", html=False)
    assert not (tmp_path / "one" / "temperatures.png").exists()


def test_lines_hold_the_grid_and_the_best_expert(
    make_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Comparison] = [
        write_comparison([make_study(seeds=(0,), num_problems=4)], tmp_path, html=False, figure=False)
    ]
    comparison = drawn[0]
    for row in comparison.further.values():
        row["best_expert"] = Interval(0.8, 0.7, 0.9)
    saved: list[object] = []
    monkeypatch.setattr(figure, "save_figure", lambda made, path: saved.append(made))
    figure.draw_temperatures(comparison, tmp_path / "x.png")
    axes = saved[0].axes[0]  # type: ignore[attr-defined]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == [*comparison.methods, "best expert (0.80)"]
    for name in comparison.methods:
        expected = [comparison.grid[t][name]["solve_rate"].value for t in (0.6, 1.0, 1.5)]
        assert list(lines[name].get_xdata()) == [0.6, 1.0, 1.5] and list(lines[name].get_ydata()) == expected
