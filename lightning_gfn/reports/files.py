"""The files of a comparison: JSON for programs, Markdown and a figure for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lightning_gfn.reports.comparison import Comparison, compare_runs
from lightning_gfn.reports.markdown import comparison_markdown
from lightning_gfn.reports.runs import load_run


def write_comparison(
    folders: Sequence[Path],
    output: Path,
    *,
    baseline: str | None = None,
    stage: str = "test",
    temperature: float | None = None,
    figure: bool = True,
) -> Comparison:
    """Compare run folders and write ``comparison.json``, ``comparison.md`` and ``comparison.png`` into ``output``.

    Args:
        folders: run folders, in the order in which their methods shall appear.
        output: folder to write to; made if absent.
        baseline: method that the others are compared with; the first one if None.
        stage: ``test`` or ``val``.
        temperature: which temperature of the grid; the first one if None.
        figure: also draw the figure.

    Raises:
        FileNotFoundError: a run has not been evaluated.
        ValueError: the runs are not comparable; the message says in what.
    """
    runs = [load_run(folder, stage=stage, temperature=temperature) for folder in folders]
    comparison = compare_runs(runs, baseline=baseline, temperature=temperature)
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison.to_json(), indent=2, allow_nan=False)
    (output / "comparison.json").write_text(text + "\n", encoding="utf-8")
    if figure:
        from lightning_gfn.reports.figure import draw_comparison

        draw_comparison(comparison, output / "comparison.png")
    page = comparison_markdown(comparison, image="comparison.png" if figure else None)
    (output / "comparison.md").write_text(page, encoding="utf-8")
    return comparison
