"""Search results become metrics of a run: one value a theorem, branching and budget of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_gfn.reports.rows import json_rows, read_json

PREFIX = "search_solve_rate"


def read_searches(results: Path, stage: str) -> tuple[dict[str, dict[str, float]], Any]:
    """``search_solve_rate_b<branching>_n<nodes>`` of each theorem, and the settings of the searches.

    A theorem counts as solved with a budget if its first proof came within so many expanded states.

    Args:
        results: folder of a run.
        stage: ``test`` or ``val``.

    Returns:
        values by metric and problem id, and the settings; nothing and None if the run was not searched.

    Raises:
        ValueError: names file, line and field of a malformed row.
    """
    summary, path = results / f"{stage}_search.json", results / f"{stage}_search.jsonl"
    if not summary.is_file():
        return {}, None
    remedy = "search again (the callback lightning_gfn.callbacks.proof_search.ProofSearch)"
    content = read_json(summary, remedy)
    values: dict[str, dict[str, float]] = {}
    budgets = sorted({cell["nodes"] for cell in content["table"]})
    for number, row in json_rows(path, remedy):
        try:
            branching, first, problem = row["branching"], row["solved_at_nodes"], row["problem_id"]
            for nodes in budgets:
                solved = float(first is not None and first <= nodes)
                values.setdefault(f"{PREFIX}_b{branching}_n{nodes}", {})[problem] = solved
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: malformed row ({error!r}); {remedy}") from error
    return values, content.get("search")
