"""Comparisons: the schema, the refusals, the sentences and the files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightning_gfn.commands.results.compare import main
from lightning_gfn.reports.comparison import Options, compare_runs
from lightning_gfn.reports.files import write_comparison
from lightning_gfn.reports.rendering.markdown import comparison_markdown
from lightning_gfn.reports.runs import load_run

MakeRun = Callable[..., Path]
HEADLINE = ("solve_rate", "pass_at_8", "maj_at_8", "distinct_correct_rouge_0.7", "coverage")


def test_files_and_schema(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(name, seed, level=level) for name, level in (("sft", 0.5), ("grpo", 0.9)) for seed in (0, 1)]
    write_comparison(runs, tmp_path / "out", options=Options(baseline="sft"))
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(found["methods"]) == ["sft", "grpo"]
    for row in found["methods"].values():
        assert tuple(row) == HEADLINE
        for cell in row.values():
            low, high = cell["ci95"]
            assert low < cell["value"] < high
    assert found["problems"] == 40 and found["samples_per_problem"] == 8 and found["seeds"] == [0, 1]
    assert found["budget"]["grpo"] == {"generated_tokens": 1000.5, "wall_seconds": 60.5}
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "distinct_correct_rouge_0.5" in found["further"]["sft"]


def test_values_are_means_over_seeds_and_problems(make_run: MakeRun) -> None:
    runs = [load_run(make_run(name, seed)) for name in ("a", "b") for seed in (1, 0)]
    comparison = compare_runs(runs)
    rows = [json.loads(line) for r in runs[:2] for line in (r.folder / "results" / "test_problems.jsonl").open()]
    by_hand = np.mean([row["metrics"]["coverage"] for row in rows if row["temperature"] == 1.0])
    assert comparison.headline["a"]["coverage"].value == pytest.approx(by_hand)
    assert comparison.differences["b"]["coverage"].interval.value == pytest.approx(
        comparison.headline["b"]["coverage"].value - by_hand
    )
    assert comparison.cube.seeds == {"a": [0, 1], "b": [0, 1]}


def test_another_temperature_is_another_table(make_run: MakeRun) -> None:
    runs = [load_run(make_run(name), temperature=0.6) for name in ("a", "b")]
    assert compare_runs(runs).headline["a"]["solve_rate"].value == 1.0
    assert compare_runs(runs).cube.temperature == 0.6
    with pytest.raises(ValueError, match=r"evaluated at temperatures \[1.0, 0.6\], not at 0.3"):
        load_run(runs[0].folder, temperature=0.3)


def test_sentences_say_who_wins_and_who_loses(make_run: MakeRun) -> None:
    levels = {"grpo": 0.6, "subtb": 0.2, "vargrad": 0.95, "twin": 0.63}
    runs = [load_run(make_run(name, level=level, num_problems=150)) for name, level in levels.items()]
    page = comparison_markdown(compare_runs(runs, Options(baseline="grpo")))
    section = page.split("- solve rate:")[1].split("- pass@8")[0]
    assert section.startswith(" vargrad highest with 0.8")
    assert "ahead of subtb by 0.6" in section and ", of twin by 0.2" in section
    assert "**subtb** is lower than grpo by 0.4" in section
    assert "**vargrad** is higher than grpo by 0." in section
    assert "**twin** and grpo cannot be told apart" in section
    assert "models of this size (612,000 parameters)" in page
    assert "with one seed they leave out how much training runs differ" in page
    assert "| 1,000" in page or "1,000 |" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_problems": 39}, r"problems.count is 40 in .* but 39 in"),
        ({"num_problems": 39}, r"a-s0 covers 40 problems but .*b-s0 39 .*'p39' is in one only"),
        ({"problems": {"count": 40, "fingerprint": "x"}}, r"problems.fingerprint is 'n40' in .* but 'x' in .*b-s0"),
        ({"metric_settings": {"ks": [1, 4], "thresholds": [0.5, 0.7]}}, r"metric_settings.ks is \[1, 8\] in"),
        (
            {"decoding": {"num_samples": 8, "temperatures": [1.0, 0.6], "top_k": None, "top_p": 0.9, "seed": 0}},
            r"decoding.top_p is None in .* but 0.9 in",
        ),
    ],
)
def test_runs_measured_differently_are_refused(make_run: MakeRun, change: dict[str, object], message: str) -> None:
    runs = [load_run(make_run("a")), load_run(make_run("b", **change))]
    with pytest.raises(ValueError, match=message):
        compare_runs(runs)


def test_one_run_given_twice_is_refused(make_run: MakeRun) -> None:
    a, b = make_run("a"), make_run("b")
    with pytest.raises(ValueError, match="are both method 'b' with seed 0"):
        compare_runs([load_run(a), load_run(b), load_run(b)])
    with pytest.raises(ValueError, match="at least two methods"):
        compare_runs([load_run(a)])
    with pytest.raises(ValueError, match="--baseline 'c' is none of the methods of these runs: a, b"):
        compare_runs([load_run(a), load_run(b)], Options(baseline="c"))


def test_unequal_seeds_are_said(make_run: MakeRun) -> None:
    comparison = compare_runs([load_run(make_run("a", 0)), load_run(make_run("b", 0)), load_run(make_run("b", 1))])
    assert "Seeds by method: a: 0; b: 0, 1." in comparison_markdown(comparison)


def test_a_malformed_row_names_file_and_line(make_run: MakeRun) -> None:
    folder = make_run("a")
    path = folder / "results" / "test_problems.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = '{"temperature": 1.0}'
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"test_problems.jsonl, line 3: field 'problem_id' is missing; evaluate"):
        load_run(folder)
    with pytest.raises(FileNotFoundError, match="evaluate this run first"):
        load_run(folder / "nowhere")


def test_the_command_prints_the_table(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make_run(name)) for name in ("sft", "subtb")]
    assert main([*runs, "--output", str(tmp_path / "out"), "--baseline", "sft"]) == 0
    assert "\nsubtb   0." in capsys.readouterr().out
    assert main([*runs, "--output", str(tmp_path / "out"), "--filter", "tags.method = 'a'"]) == 2
    assert "--filter chooses among the runs of --mlflow" in capsys.readouterr().err
    assert main([runs[0], str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 1
    assert "no run with results/test_metrics.json" in capsys.readouterr().err


def test_comparing_needs_neither_torch_nor_lightning(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [str(make_run(name)) for name in ("sft", "subtb")]
    code = (
        "import sys\nfrom lightning_gfn.commands.results.compare import main\n"
        "assert 'numpy' not in sys.modules and 'matplotlib' not in sys.modules\n"
        f"assert main({[*runs, '--output', str(tmp_path / 'out')]!r}) == 0\n"
        "assert not {'torch', 'lightning', 'transformers', 'mlflow'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_that_solved_nothing_is_compared(make_run: MakeRun, tmp_path: Path) -> None:
    """What is measured on solved problems alone has no value in it."""
    better, nothing = make_run("better"), make_run("nothing", level=-9.0)
    path = better / "results" / "test_problems.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:10:2]:
        row["metrics"]["proof_length_mean"] = 2.0
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, order in enumerate(((better, nothing), (nothing, better))):
        write_comparison(order, tmp_path / str(number), options=Options(baseline="better"))
        found = json.loads((tmp_path / str(number) / "comparison.json").read_text())
        assert found["further"]["better"]["proof_length_mean"]["value"] == 2.0
        assert found["further"]["nothing"]["proof_length_mean"]["value"] is None
