"""The files of a comparison: JSON for programs; Markdown, a figure and a page for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lightning_gfn.reports.comparison import Comparison, Options, compare_runs
from lightning_gfn.reports.rendering.markdown import comparison_markdown
from lightning_gfn.reports.runs import find_runs, load_run
from lightning_gfn.reports.statistics.cube import ACCURACY


def write_comparison(
    folders: Sequence[Path | tuple[str, Path]],
    output: Path,
    *,
    options: Options | None = None,
    temperature: float | None = None,
    figure: bool = True,
    html: bool = True,
) -> Comparison:
    """Compare runs and write ``comparison.json``, ``.md``, ``.html`` and ``.png`` into ``output``, at several
    temperatures ``temperatures.png``, too.

    Args:
        folders: run folders, or folders with evaluated runs below them, in the order in which their methods shall
            appear; a pair (name, folder) gives the runs' method that name.
        output: folder to write to; made if absent.
        options: what to compare with, and how.
        temperature: which temperature of the grid; the first one if None.
        figure: also draw the figure.
        html: also write the page.

    Raises:
        FileNotFoundError: a run has not been evaluated.
        ValueError: the runs are not comparable; the message says in what.
    """
    chosen = options if options is not None else Options()
    named = [entry if isinstance(entry, tuple) else (None, entry) for entry in folders]
    runs = [
        load_run(folder, stage=chosen.stage, temperature=temperature, method=name)
        for name, parent in named
        for folder in find_runs(parent, chosen.stage)
    ]
    comparison = compare_runs(runs, chosen)
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(comparison.to_json(), indent=2, allow_nan=False)
    (output / "comparison.json").write_text(text + "\n", encoding="utf-8")
    if figure:
        from lightning_gfn.reports.rendering.figure import draw_comparison, draw_temperatures

        draw_comparison(comparison, output / "comparison.png")
        if len(comparison.grid) > 1 and all(ACCURACY in row for t in comparison.grid.values() for row in t.values()):
            draw_temperatures(comparison, output / "temperatures.png")
    page = comparison_markdown(comparison, image="comparison.png" if figure else None)
    (output / "comparison.md").write_text(page, encoding="utf-8")
    if html:
        from lightning_gfn.reports.rendering.html import comparison_html

        (output / "comparison.html").write_text(comparison_html(comparison), encoding="utf-8")
    return comparison
