"""Proof searches in a comparison: solve rates by branching and budget, paired by theorem."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.reports.comparison import Options, compare_runs
from lightning_gfn.reports.runs import check_comparable, load_run
from lightning_gfn.reports.searches import read_searches
from lightning_gfn.reports.titles import metric_title

NODES = (1, 4)


def add_search(folder: Path, firsts: dict[int, Sequence[int | None]], **settings: Any) -> Path:
    """Write the results of searches: for each branching, the states expanded before each theorem's first proof."""
    rows = [
        {"problem_id": f"p{problem}", "branching": branching, "solved_at_nodes": first}
        for branching, found in firsts.items()
        for problem, first in enumerate(found)
    ]
    table = [{"branching": branching, "nodes": nodes} for branching in firsts for nodes in NODES]
    content = {"search": {"max_depth": 8, **settings}, "table": table}
    (folder / "results" / "test_search.json").write_text(json.dumps(content))
    (folder / "results" / "test_search.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_theorem_is_solved_by_every_budget_from_its_first_proof_on(make_run: Callable[..., Path]) -> None:
    run = load_run(add_search(make_run("sft", num_problems=4), {2: [1, 3, 4, None], 8: [None, 4, 5, 1]}))
    expected = {
        "search_solve_rate_b2_n1": [1, 0, 0, 0], "search_solve_rate_b2_n4": [1, 1, 1, 0],
        "search_solve_rate_b8_n1": [0, 0, 0, 1], "search_solve_rate_b8_n4": [0, 1, 0, 1],
    }  # fmt: skip
    for temperature in (1.0, 0.6):
        found = {name: row for name, row in run.values[temperature].items() if name.startswith("search")}
        assert {name: [row[f"p{n}"] for n in range(4)] for name, row in found.items()} == expected
    assert metric_title("search_solve_rate_b8_n64") == "solve rate of search, branching 8, 64 nodes"


def test_searches_are_compared_theorem_by_theorem(make_run: Callable[..., Path]) -> None:
    one = add_search(make_run("sft"), {2: [1] * 10 + [None] * 30})
    two = add_search(make_run("grpo"), {2: [4] * 20 + [None] * 20})
    comparison = compare_runs([load_run(one), load_run(two)], Options(baseline="sft"))
    assert comparison.further["grpo"]["search_solve_rate_b2_n4"].value == pytest.approx(0.5)
    assert comparison.further["grpo"]["search_solve_rate_b2_n1"].value == 0.0
    difference = comparison.differences["grpo"]["search_solve_rate_b2_n4"].interval
    assert difference.value == pytest.approx(0.25) and difference.low > 0.1


def test_other_searches_and_runs_without_one(make_run: Callable[..., Path]) -> None:
    one = load_run(add_search(make_run("sft"), {2: [1] * 40}))
    other = load_run(add_search(make_run("grpo"), {2: [1] * 40}, max_depth=4))
    with pytest.raises(ValueError, match=r"search\.max_depth is 8 .* but 4"):
        check_comparable([one, other])
    plain = load_run(make_run("ppo"))
    check_comparable([one, plain])
    differences = compare_runs([one, plain], Options(baseline="sft")).differences["ppo"]
    assert "solve_rate" in differences and "search_solve_rate_b2_n4" not in differences


def test_a_malformed_row_is_named(make_run: Callable[..., Path]) -> None:
    folder = add_search(make_run("sft"), {2: [1] * 40}) / "results"
    (folder / "test_search.jsonl").write_text('{"problem_id": "p0", "branching": 2}\n')
    with pytest.raises(ValueError, match=r"test_search.jsonl, line 1: malformed row .*solved_at_nodes"):
        read_searches(folder, "test")
