"""A whole study: folders below a folder, names, strata, partial seeds, learning curves, costs, rankings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_gfn.commands.results.compare import main, named_folder
from lightning_gfn.reports.comparison import Comparison, Options, compare_runs
from lightning_gfn.reports.curves import histories, learning_curves, running_mean
from lightning_gfn.reports.rendering import sentences, tables
from lightning_gfn.reports.rendering.markdown import comparison_markdown
from lightning_gfn.reports.rendering.sensitivity import sensitivity_table
from lightning_gfn.reports.runs import find_runs, load_run
from lightning_gfn.reports.statistics.bootstrap import HierarchicalBootstrap
from lightning_gfn.reports.statistics.cube import Cube
from lightning_gfn.reports.statistics.spending import spending
from lightning_gfn.reports.statistics.strata import partitions

MakeStudy = Callable[..., Path]
DISTINCT = "distinct_correct_rouge_0.7"
FEW = Options(baseline="grpo", num_resamples=1000)


@pytest.fixture(scope="module")
def study(make_study: MakeStudy) -> Comparison:
    return compare_runs([load_run(folder) for folder in find_runs(make_study(), "test")], FEW)


def test_runs_below_a_folder_are_found_without_those_set_aside(make_study: MakeStudy) -> None:
    root = make_study(seeds=(0,), num_problems=3)
    for name in ("sft_seed0.old-1", "comparison/mlflow_runs/x/sft-1"):
        (root / name / "results").mkdir(parents=True)
        (root / name / "results" / "test_metrics.json").write_text("{}")
    assert [folder.name for folder in find_runs(root, "test")] == [
        "grpo_seed0",
        "sft_seed0",
        "subtb_seed0",
        "vargrad_seed0",
    ]
    assert find_runs(root / "sft_seed0", "test") == [root / "sft_seed0"]
    with pytest.raises(FileNotFoundError, match=r"results/val_metrics.json .*lightning-gfn validate"):
        find_runs(root / "comparison", "val")


def test_strata_equal_the_same_runs_on_those_problems_alone(study: Comparison) -> None:
    assert list(study.strata.fields) == ["level", "family"] and study.strata.left_out == ["number"]
    for field, found in study.strata.fields.items():
        assert sum(stratum.problems for stratum in found) == 24
        for stratum in found:
            for name, group in study.cube.groups.items():
                rows = [row for run in group for row in run.samples.values()]
                own = [r["metrics"][DISTINCT] for r in rows if str(r["metadata"][field]) == stratum.value]
                assert stratum.methods[name][DISTINCT].value == pytest.approx(np.mean(own))
            gap = stratum.methods["sft"][DISTINCT].value - stratum.methods["grpo"][DISTINCT].value
            assert stratum.differences["sft"][DISTINCT].interval.value == pytest.approx(gap)
    assert "level = 2 (8 problems)" in comparison_markdown(study)


def test_numbers_as_strata_stand_in_order(make_study: MakeStudy) -> None:
    cube = Cube([load_run(folder) for folder in find_runs(make_study(seeds=(0,), num_problems=9), "test")])
    samples = next(iter(cube.groups.values()))[0].samples
    for number, row in enumerate(samples.values()):
        row["metadata"]["level"] = [10, 9, None][number % 3]
    assert list(partitions(cube)[0]["level"]) == [9, 10, None]


def test_differences_use_the_seeds_that_both_have(make_study: MakeStudy) -> None:
    root = make_study(seeds=(0, 1, 2), num_problems=8)
    runs = [load_run(folder) for folder in find_runs(root, "test")]
    kept = [run for run in runs if (run.method, run.seed) not in {("sft", 1), ("grpo", 2), ("subtb", 0), ("subtb", 1)}]
    found = compare_runs(kept, FEW)
    only = {run.method: run for run in runs if run.seed == 0}
    by_hand = np.mean(
        [only["sft"].values[1.0][DISTINCT][p] - only["grpo"].values[1.0][DISTINCT][p] for p in only["sft"].samples]
    )
    assert found.differences["sft"][DISTINCT].interval.value == pytest.approx(by_hand)
    free = found.headline["subtb"][DISTINCT].value - found.headline["grpo"][DISTINCT].value
    assert found.differences["subtb"][DISTINCT].interval.value == pytest.approx(free)
    assert "Differences use the seeds that both methods have" in " ".join(sentences.setting_sentences(found))


def test_metrics_of_other_problems_are_not_paired(study: Comparison) -> None:
    assert "self_bleu" in study.unpaired and f"{DISTINCT}_solved" in study.unpaired
    assert "self_bleu" not in study.differences["sft"] and DISTINCT in study.differences["sft"]
    rows = [row for run in study.cube.groups["sft"] for row in run.samples.values()]
    known = [row["metrics"]["self_bleu"] for row in rows if row["metrics"]["self_bleu"] is not None]
    assert 0 < len(known) < len(rows)
    assert study.measured("sft")["self_bleu"].value == pytest.approx(np.mean(known))


def test_pass_curve_ends_in_the_measured_metric(study: Comparison) -> None:
    for name, curve in study.pass_curve.items():
        assert list(curve) == [1, 2, 4, 8]
        assert curve[8].value == pytest.approx(study.headline[name]["pass_at_8"].value)
        assert curve[1].value == pytest.approx(study.headline[name]["solve_rate"].value)
        assert curve[1].value <= curve[2].value <= curve[4].value <= curve[8].value


def test_corrected_family_is_methods_times_primary_metrics(study: Comparison, make_study: MakeStudy) -> None:
    family = [d for row in study.differences.values() for m, d in row.items() if m in study.primary]
    assert len(family) == 3 * 5 and all(d.p_holm is not None and d.p_holm >= d.p for d in family)
    assert study.differences["sft"]["entropy_mean"].p_holm is None
    assert "least corrected p-value that so many resamples can show is 0.030" in tables.difference_table(study).notes[0]
    runs = [run for group in study.cube.groups.values() for run in group]
    narrow = compare_runs(runs, Options(baseline="grpo", primary=(DISTINCT,), num_resamples=1000))
    assert min(d[DISTINCT].p_holm or 1.0 for d in narrow.differences.values()) == pytest.approx(3 * 2 / 1001)
    with pytest.raises(ValueError, match="--primary 'self_bleu' is no metric that all runs have"):
        compare_runs(runs, Options(primary=("self_bleu",), num_resamples=50))


def test_claims_name_the_accuracy(study: Comparison) -> None:
    by_name = dict(zip(study.differences, sentences.claims(study), strict=True))
    assert "**sft** finds" in by_name["sft"] and "more distinct correct solutions of 8" in by_name["sft"]
    assert "at lower accuracy (solve rate lower by 0." in by_name["sft"]
    runs = [run for group in study.cube.groups.values() for run in group]
    wide = compare_runs(runs, Options(baseline="grpo", margin=0.9, min_difference=7.5, num_resamples=1000))
    line = dict(zip(wide.differences, sentences.claims(wide), strict=True))["subtb"]
    assert "at equal accuracy (solve rate -0." in line and "within ±0.9" in line
    assert "than grpo, less than the 7.5 that count" in line
    narrow = compare_runs(runs, Options(baseline="vargrad", margin=0.001, num_resamples=1000))
    line = dict(zip(narrow.differences, sentences.claims(narrow), strict=True))["subtb"]
    assert "at an accuracy not shown to be equal" in line and "beyond ±0.001" in line


def test_equality_uses_the_90_percent_interval_of_the_paired_difference(study: Comparison) -> None:
    found = study.equality["subtb"]
    gaps = study.cube.matrix("subtb", "solve_rate") - study.cube.matrix("grpo", "solve_rate")
    bootstrap = HierarchicalBootstrap(num_resamples=1000)
    low, high = np.percentile(bootstrap.means(gaps), [5, 95])
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.difference.value == pytest.approx(gaps.mean())
    assert found.difference.low < low < high < found.difference.high


def test_differences_pair_problems_and_seeds(study: Comparison) -> None:
    gaps = study.cube.matrix("sft", DISTINCT) - study.cube.matrix("grpo", DISTINCT)
    expected = HierarchicalBootstrap(num_resamples=1000).interval(gaps)
    found = study.differences["sft"][DISTINCT].interval
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_equalised_axes_are_stated(study: Comparison) -> None:
    assert study.spending.equalised == {"generated_tokens": True, "reward_calls": True, "wall_seconds": False}
    first = sentences.spending_sentences(study)[0]
    said = "Equalised (within 5%, methods that spent nothing left out): generated tokens, reward calls. "
    assert first == said + "Not equalised: wall time (s)."
    rows = tables.spending_table(study)
    assert rows is not None and rows.rows[-1] == ["within 5%", "yes", "yes", "no"]


def test_nested_budgets_of_earlier_stages_are_no_axes(make_study: MakeStudy) -> None:
    root = make_study(seeds=(0,), num_problems=3)
    for folder in root.iterdir():
        spent = {"generated_tokens": 5, "own": {"generated_tokens": 3}, "prior": {"a": {"generated_tokens": 2}}}
        (folder / "budget.json").write_text(json.dumps(spent))
    (root / "sft_seed0" / "budget.json").unlink()
    found = compare_runs([load_run(folder) for folder in find_runs(root, "test")], FEW)
    assert found.spending.methods["grpo"] == {"generated_tokens": 5.0} and found.spending.without == ["sft"]


def test_rankings_agree_as_spearman_says(study: Comparison) -> None:
    from scipy import stats

    table = tables.ranking_table(study)
    assert table is not None
    by_title = {row[0]: row for row in table.rows}
    bleu = by_title["self-BLEU of correct samples (lower: more different)"]
    first = [study.headline[name][DISTINCT].value for name in study.methods]
    other = [-study.measured(name)["self_bleu"].value for name in study.methods]
    assert float(bleu[-1]) == pytest.approx(stats.spearmanr(first, other).statistic, abs=0.005)
    for row, metric in zip(
        table.rows, [DISTINCT, *(m for m in study.measured("sft") if m == "coverage")], strict=False
    ):
        values = [-study.measured(name)[metric].value for name in study.methods]
        assert row[1:-1] == [f"{rank:g}" for rank in stats.rankdata(values)]
    assert bleu[1:-1] == [f"{rank:g}" for rank in stats.rankdata([-value for value in other])]


def test_histories_join_figures_to_what_was_spent(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"step": 9, "train/solve_rate_on_policy": 0.5, "budget/reward_calls": 10.0},
        {"step": 10, "val/solve_rate": 0.6},
        {"step": 19, "train/solve_rate_on_policy": None, "budget/reward_calls": 20.0},
        {"step": 20, "val/solve_rate": 0.7},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 29, "val/so')
    found = histories(path, ["val/solve_rate", "train/solve_rate_on_policy"])
    assert found["val/solve_rate"] == [
        {"reward_calls": 10.0, "step": 10.0, "value": 0.6},
        {"reward_calls": 20.0, "step": 20.0, "value": 0.7},
    ]
    assert len(found["train/solve_rate_on_policy"]) == 1
    assert histories(tmp_path / "none.jsonl", ["x"]) == {"x": []}


def test_learning_curves_are_means_over_seeds(study: Comparison) -> None:
    curve = learning_curves(study)["val/solve_rate"]["reward_calls"]["sft"]
    assert curve.x.tolist() == [64.0 * step for step in (49, 99, 149, 199)]
    seeds = [
        [row["value"] for row in histories(run.folder / "metrics.jsonl", ["val/solve_rate"])["val/solve_rate"]]
        for run in study.cube.groups["sft"]
    ]
    assert np.allclose(curve.mean, np.mean(seeds, axis=0)) and np.allclose(curve.high, np.max(seeds, axis=0))
    assert "wall_seconds" not in learning_curves(study)["val/solve_rate"]


def test_running_mean_is_the_mean_of_the_last_values() -> None:
    values = np.random.default_rng(0).random(12)
    expected = [values[max(0, i - 3) : i + 1].mean() for i in range(12)]
    assert np.allclose(running_mean(values, 4), expected)


def test_the_command_takes_names_and_folders(
    make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_study(seeds=(0,), num_problems=4)
    assert named_folder("a=b/c") == ("a", Path("b/c")) and named_folder("runs/x=1") == Path("runs/x=1")
    output = tmp_path / "out"
    arguments = [f"GRPO again={root / 'grpo_seed0'}", str(root), "--baseline", "grpo", "--resamples", "200"]
    assert main([*arguments, "--output", str(output), "--no-figure", "--margin", "0.1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "GRPO again and grpo cannot be told apart" in shown and "within ±0.1" in shown
    assert {path.name for path in output.iterdir()} == {"comparison.json", "comparison.md", "comparison.html"}
    found = json.loads((output / "comparison.json").read_text())
    assert list(found["methods"]) == ["GRPO again", "grpo", "sft", "subtb", "vargrad"]
    assert found["equality"]["GRPO again"]["equal"] and found["resamples"] == 200
    assert main([str(root), "--output", str(output), "--margin", "2"]) == 1
    assert "--margin must lie between 0 and 1" in capsys.readouterr().err
    assert main(["--output", str(output)]) == 2
    assert main([str(root), "--output", str(output), "--stage", "val", "--no-html", "--resamples", "100"]) == 0


@pytest.mark.slow
def test_a_large_study_takes_less_than_half_a_minute_of_one_core(make_study: MakeStudy, tmp_path: Path) -> None:
    import time

    methods = {f"method{i}": (0.5 + 0.2 * i, 0.3 * (i + 1)) for i in range(8)}
    root = make_study(methods=methods, seeds=(0, 1, 2), temperatures=(1.0, 0.6, 0.8, 1.2, 1.5), num_problems=128)
    start = time.process_time()
    assert main([str(root), "--output", str(tmp_path / "out")]) == 0
    assert time.process_time() - start < 30
    assert (tmp_path / "out" / "comparison.html").stat().st_size < 10e6


def test_a_method_without_a_budget_on_an_axis_does_not_count_there(study: Comparison) -> None:
    axes = ("generated_tokens", "wall_seconds")
    runs = {
        name: [replace(study.cube.groups["sft"][0], budget=dict(zip(axes, spent, strict=True)))]
        for name, spent in {"sft": (0.0, 10.0), "a": (100.0, 20.0), "b": (97.0, 20.0)}.items()
    }
    assert spending(runs).equalised == {"generated_tokens": True, "wall_seconds": False}


def test_sensitivity_to_threshold_and_temperature(study: Comparison) -> None:
    """Every cell by a written loop; the last column by scipy; a reversed order is noticed."""
    from scipy.stats import spearmanr

    table = sensitivity_table(study)
    assert table is not None and table.header == ["setting", *study.methods, "order"]
    cells = {row[0]: row[1:] for row in table.rows}
    means: dict[str, list[float]] = {}
    for temperature in study.cube.temperatures:
        for threshold in (0.5, 0.7, 0.9):
            metric = f"distinct_correct_rouge_{threshold:g}"
            if not study.cube.is_on_grid(metric):
                continue
            means[f"T = {temperature:g}, ROUGE-L < {threshold:g}"] = [
                sum(sum(run.values[temperature][metric].values()) for run in study.cube.groups[name])
                / sum(len(run.values[temperature][metric]) for run in study.cube.groups[name])
                for name in study.methods
            ]
    assert len(means) >= 2 and means.keys() <= cells.keys()
    first = means[table.rows[0][0]]
    for name, row in means.items():
        assert cells[name][:-1] == [f"{value:.2f}" for value in row]
        assert float(cells[name][-1]) == pytest.approx(spearmanr(first, row).statistic, abs=0.006)
