"""Search results become metrics of a run: one value a theorem, branching and budget of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_gfn.reports.checks import is_count, is_text
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
    try:
        budgets = sorted({int(cell["nodes"]) for cell in content["table"]})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{summary}: field 'table' is missing or malformed ({error!r}); {remedy}") from error
    for number, row in json_rows(path, remedy):
        branching, first, problem = row.get("branching"), row.get("solved_at_nodes", ""), row.get("problem_id", "")
        if not (is_count(branching) and (first is None or is_count(first)) and is_text(problem)):
            raise ValueError(
                f"{path}, line {number}: malformed row (branching {branching!r}, solved_at_nodes {first!r}, problem_id "
                f"{problem!r}); {remedy}"
            )
        for nodes in budgets:
            column = values.setdefault(f"{PREFIX}_b{branching}_n{nodes}", {})
            if problem in column:
                raise ValueError(f"{path}, line {number}: problem {problem!r} stands there twice; {remedy}")
            column[problem] = float(first is not None and first <= nodes)
    return values, content.get("search")
