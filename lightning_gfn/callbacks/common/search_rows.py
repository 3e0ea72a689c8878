"""Rows, grids and descriptions of the results of proof search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from lightning_gfn.callbacks.common.problem_rows import Measured, measure
from lightning_gfn.callbacks.common.run_files import ResultRow
from lightning_gfn.rollouts.search.search_result import SearchResult
from lightning_gfn.similarity.tactic_scripts import distinct_scripts


def search_row(result: SearchResult, branching: int) -> ResultRow:
    """Make the row that is kept of one search; ``metrics`` are its values a theorem."""
    distinct = distinct_scripts([proof.script for proof in result.proofs])
    metrics = {
        "search_solve_rate": float(result.is_proved),
        "search_nodes": float(result.nodes),
        "search_environment_steps": float(result.environment_steps),
        "search_states": float(result.states),
        "search_proofs": float(len(distinct)),
        "search_policy_seconds": result.policy_seconds,
        "search_environment_seconds": result.environment_seconds,
    }
    if result.environment_steps:
        metrics["search_error_rate"] = result.errors / result.environment_steps
    if result.proofs:
        metrics["search_proof_length"] = float(len(result.proofs[0].script))
    return {
        "problem_id": result.problem.id,
        "branching": branching,
        "status": result.status,
        "solved_at_nodes": result.proofs[0].nodes if result.proofs else None,
        "metrics": metrics,
        "unsound": result.unsound,
        "generated_tokens": result.generated_tokens,
        "too_long": result.too_long,
        "seconds": result.seconds,
        "message": result.message,
        "proofs": [dataclasses.asdict(result.proofs[index]) for index in distinct],
    }


def grid_table(
    rows: Sequence[ResultRow], node_budgets: Sequence[int], *, num_resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Solve rates for each branching and budget of nodes, of one search a theorem and branching.

        solved(n) = 1[the first proof was found by the n-th expanded state]

    Args:
        rows: of all theorems and branchings.
        node_budgets: at most the budget of the searches.
        num_resamples: bootstrap resamples of the intervals.
        seed: of the resamples.

    Returns:
        Rows of ``branching``, ``nodes``, ``solve_rate``, ``ci95``, ``proved`` and ``theorems``, in order of branching,
        for plots.
    """
    table = []
    for branching in sorted({row["branching"] for row in rows}):
        firsts = [row["solved_at_nodes"] for row in rows if row["branching"] == branching]
        for nodes in node_budgets:
            solved = [float(first is not None and first <= nodes) for first in firsts]
            rate = measure([{"metrics": {"x": x}} for x in solved], num_resamples=num_resamples, seed=seed)["x"]
            cell = {"branching": branching, "nodes": nodes, "solve_rate": rate.value, "ci95": [rate.low, rate.high]}
            table.append({**cell, "proved": int(sum(solved)), "theorems": len(solved)})
    return table


def search_metrics(rows: Sequence[ResultRow], seconds: float, *, num_resamples: int, seed: int) -> dict[str, Measured]:
    """Means and intervals over theorems of one branching, and what a proved theorem costs.

    Args:
        rows: of all theorems.
        seconds: wall time of the search, summed over processes.
        num_resamples: bootstrap resamples of the intervals.
        seed: of the resamples.
    """
    found = measure(rows, num_resamples=num_resamples, seed=seed)
    proved = sum(row["solved_at_nodes"] is not None for row in rows)
    if proved:
        totals = {"seconds": seconds, "nodes": math.fsum(row["metrics"]["search_nodes"] for row in rows)}
        for name, total in totals.items():
            found[f"search_{name}_per_proof"] = Measured(total / proved, math.nan, math.nan)
    return found


def described(value: Any) -> Any:
    """Settings as JSON: dataclasses by their fields and class, other objects by their class."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return type(value).__name__


def grid_text(table: Sequence[dict[str, Any]], title: str) -> str:
    """The solve rates as aligned plain text: a line a branching, a column a budget."""
    budgets = list(dict.fromkeys(cell["nodes"] for cell in table))
    lines = [title, "branching  " + "  ".join(f"{f'{nodes} nodes':>10}" for nodes in budgets)]
    for branching in dict.fromkeys(cell["branching"] for cell in table):
        cells = [cell["solve_rate"] for cell in table if cell["branching"] == branching]
        lines.append(f"{branching:>9}  " + "  ".join(f"{rate:>10.3f}" for rate in cells))
    return "\n".join(lines)
