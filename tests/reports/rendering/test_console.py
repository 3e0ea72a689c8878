"""What ``compare`` prints fits the terminal and loses no figure."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_gfn.reports.comparison import Comparison, Options, compare_runs
from lightning_gfn.reports.rendering.console import console_summary, console_table, cut
from lightning_gfn.reports.rendering.tables import TextTable, headline_table, spending_table
from lightning_gfn.reports.runs import find_runs, load_run


@pytest.fixture(scope="module")
def study(make_study: Callable[..., Path]) -> Comparison:
    runs = [load_run(folder) for folder in find_runs(make_study(num_problems=4), "test")]
    return compare_runs(runs, Options(baseline="grpo", num_resamples=50))


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_every_figure_is_there(study: Comparison, width: int) -> None:
    text = console_summary(study, width)
    assert max(map(len, text.splitlines())) <= width
    assert "**" not in text and "These conclusions come from models" in re.sub(r"\s+", " ", text)
    spent = spending_table(study)
    assert spent is not None
    for row in [*headline_table(study).rows, *spent.rows]:
        assert all(cell in text for cell in row)


def test_columns_that_do_not_fit_stand_below() -> None:
    table = TextTable(["method", "first of them", "second"], [["a", "1.000", "2.000"], ["b" * 30, "-", "4"]])
    assert console_table(table, 34).split("\n") == [
        "method        first of them",
        "------------  -------------",
        "a                     1.000",
        "bbbbb..bbbbb              -",
        "",
        "method        second",
        "------------  ------",
        "a              2.000",
        "bbbbb..bbbbb       4",
    ]
    assert "\n\n" not in console_table(table, 50)


def test_names_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in console_table(TextTable(["method", "x"], [["\x1b[31mred\n", "1"]]), 80)
    assert cut("grpo_on_gsm8k_beta_0.1", 12) == "grpo_..a_0.1" and cut("short", 12) == "short"
