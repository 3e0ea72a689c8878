"""Changed rationales, decoding by confidence and costs in a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_gfn.reports.comparison import Comparison, Options, compare_runs
from lightning_gfn.reports.faithfulness import read_faithfulness
from lightning_gfn.reports.rendering import tables
from lightning_gfn.reports.rendering.html import comparison_html
from lightning_gfn.reports.rendering.markdown import comparison_markdown
from lightning_gfn.reports.rendering.plots import efficiency
from lightning_gfn.reports.runs import find_runs, load_run

FEW = Options(baseline="sft", num_resamples=200)


def write_rows(run: Path, shares: dict[str, float]) -> None:
    """Twelve of 24 problems; a change alters the answer of the first ones, by its share."""
    rows = []
    for n in range(12):
        follows = {f"answer_follows_{change}": float(n < 12 * share) for change, share in shares.items()}
        rows.append({"problem_id": f"p{n:03d}", "metrics": {**follows, "accuracy_intact": 1.0}})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "results" / "test_faithfulness.jsonl").write_text(text)


@pytest.fixture(scope="module")
def root(make_study: Callable[..., Path]) -> Path:
    root = make_study(methods={"sft": (0.9, 1.6), "grpo": (2.4, 0.25)}, seeds=(0,))
    write_rows(root / "sft_seed0", {"corrupted": 0.75, "swapped": 1.0})
    for run in root.iterdir():
        path = run / "results" / "test_problems.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["metrics"] |= {"solve_rate_greedy": 0.0, "solve_rate_cot": 1.0}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        budget = json.loads((run / "budget.json").read_text())
        (run / "budget.json").write_text(json.dumps({**budget, "labels": 640, "processor_seconds": 12.0}))
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> Comparison:
    return compare_runs([load_run(folder) for folder in find_runs(root, "test")], FEW)


def test_the_table_of_changed_rationales(found: Comparison) -> None:
    """A method that was not looked at has no figures, and the others are not refused for it."""
    table = tables.faithfulness_table(found)
    assert table is not None
    assert table.header == [
        "method", "accuracy, intact rationale", "answer follows, corrupted rationale",
        "answer follows, swapped rationale",
    ]  # fmt: skip
    by_name = {row[0]: row[1:] for row in table.rows}
    assert by_name["sft"][0] == "1.000 [1.000, 1.000]" and by_name["sft"][1].startswith("0.750 [")
    assert by_name["grpo"] == ["–", "–", "–"]
    for page in (comparison_markdown(found), comparison_html(found)):
        assert page.count("Does the answer follow the rationale?") >= 1
    assert not any("follow" in cell for table in tables.further_tables(found) for row in table.rows for cell in row)


def test_headline_rows_hold_decoding_by_confidence_and_costs(found: Comparison) -> None:
    table = tables.headline_table(found)
    assert table.header[1:4] == ["solve rate", "solve rate, greedy", "solve rate, chain-of-thought decoding"]
    assert table.header[-3:] == ["generated tokens", "labelled problems", "processor time (s)"]
    assert table.rows[0][-3:] == ["400,000", "640", "12"]


def test_metrics_against_each_cost(found: Comparison) -> None:
    figure = efficiency(found)
    assert figure is not None
    assert dict(figure.choices)["against"] == [
        "generated tokens", "labelled problems", "processor time (s)", "reward calls",
    ]  # fmt: skip
    assert ("solve rate", "labelled problems") in figure.drawings


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"metrics": {}}', "line 1: 'problem_id' or 'metrics' is missing"),
        ('{"problem_id": "p", "metrics": {"answer_follows_x": 1.0}}', "line 1: metric 'answer_follows_x' is 1.0"),
        ('{"problem_id": "p", "metrics": {"accuracy_intact": 1.0}}\n' * 2, "line 2: problem 'p' stands there twice"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, row: str, fault: str) -> None:
    (tmp_path / "test_faithfulness.jsonl").write_text(row.strip() + "\n")
    with pytest.raises(ValueError, match=fault):
        read_faithfulness(tmp_path, "test")
    (tmp_path / "val_faithfulness.jsonl").write_text("")
    assert read_faithfulness(tmp_path, "val") == {} == read_faithfulness(tmp_path / "none", "test")
