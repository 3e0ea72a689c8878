"""Agreement of classes over pairs against a written loop and scikit-learn, and the command that prints it."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lightning_gfn import cli
from lightning_gfn.solution_classes.calibration import PairCounts, pair_counts

SYNTHETIC = "datamodules.synthetic.SyntheticWordProblems"


def test_pairs_equal_a_written_loop() -> None:
    random = Random(0)
    for size in [0, 1, 2, 5, 9] * 10:
        found = [random.choice(["a", "b", "c", None]) for _ in range(size)]
        truth = [random.choice("xyz") for _ in range(size)]
        counts = [0, 0, 0, 0]
        for i, j in combinations(range(size), 2):
            by_map = found[i] is not None and found[i] == found[j]
            counts[(0 if by_map else 2) if truth[i] == truth[j] else (1 if by_map else 3)] += 1
        assert pair_counts(found, truth) == PairCounts(*counts)


def test_the_adjusted_rand_index_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = Random(1)
    for size in [2, 3, 6, 12, 30] * 8:
        found = [random.randrange(1 + size // 2) for _ in range(size)]
        truth = [value if random.random() < 0.6 else random.randrange(3) for value in found]
        ours = pair_counts(found, truth).adjusted_rand_index
        assert ours == pytest.approx(metrics.adjusted_rand_score(truth, found), abs=1e-12)
    for found, truth in (([0, 0], [0, 0]), ([0, 1], [0, 1]), ([0, 1], [0, 0]), ([0, 0, 0], [0, 1, 2])):
        assert pair_counts(found, truth).adjusted_rand_index == metrics.adjusted_rand_score(truth, found)


def test_shares_of_pairs() -> None:
    counts = pair_counts(["a", "a", "a", "b"], ["x", "x", "y", "y"])
    assert (counts.precision, counts.recall, counts.wrongly_joined) == (1 / 3, 1 / 2, 2 / 4)
    alone = pair_counts([None, None], ["x", "y"])
    assert math.isnan(alone.precision) and math.isnan(alone.recall) and alone.wrongly_joined == 0.0
    assert (counts + counts).precision == counts.precision and counts + PairCounts() == counts
    with pytest.raises(ValueError, match="zip"):
        pair_counts(["a"], ["x", "y"])


def calibrate(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    output = tmp_path / "table.json"
    sizes = "{num_train: 8, num_val: 2, num_test: 12}"
    command = ["classes", "--data", SYNTHETIC, "--data_args", sizes, "--output", str(output), *arguments]
    assert cli.main(command) == 0
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def test_the_command_on_known_solutions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = ["--map", "known_paths", "--map", "equations", "--map", "rouge,threshold=0.9"]
    content = calibrate(tmp_path, "--num_problems", "5", *maps)
    assert content["problems"] == 5
    rows = {(row["truth"], row["classes"]): row for row in content["rows"]}
    assert {truth for truth, _ in rows} == {"path", "part 1", "part 2"}
    exact = rows["path", "known_paths"]
    assert exact["adjusted_rand_index"] == 1.0 and exact["wrongly_joined"] == 0.0
    assert exact["classes_found"] == exact["classes_true"] and exact["pair_recall"] is None
    assert rows["part 1", "known_paths"]["pair_recall"] == 0.0
    assert 0 < rows["part 1", "equation_sets"]["pair_recall"] < 1
    shown = capsys.readouterr().out
    assert "| path | known_paths | – | – | 0.000 | 1.000 |" in shown and "solutions of 5 problems" in shown


def test_the_command_on_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datamodules.synthetic import SyntheticWordProblems

    problem = SyntheticWordProblems(num_train=8, num_val=2, num_test=12).problems("test")[0]
    texts = list(problem.solution_set or {})
    chosen = [(texts[0], True), (texts[0] + " ", True), (texts[1], True), ("nonsense", True), (texts[2], False)]
    file = tmp_path / "predictions.jsonl"
    rows = [{"problem_id": problem.id, "prompt": "", "completion": t, "correct": c} for t, c in chosen]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = calibrate(tmp_path, "--predictions", str(file), "--map", "rouge,threshold=1.0")
    assert content["problems"] == 1 and content["solutions"] == 3
    assert content["rows"][0]["pair_precision"] == content["rows"][0]["pair_recall"] == 1.0
    file.write_text(json.dumps({**rows[0], "completion": "other"}) + "\n")
    capsys.readouterr()
    assert cli.main(["classes", "--data", SYNTHETIC, "--predictions", str(file)]) == 1
    assert "no sample is a known solution" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "datamodules.nothing.X"], "cannot be imported"),
        (["--data", SYNTHETIC, "--map", "rogue"], "unknown name 'rogue'"),
        (["--data", "datamodules.lean_synthetic.LeanSynthetic"], "no problem of the test split knows its solutions"),
        (["--data", "setup.yaml"], "setup.yaml"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["classes", *arguments]) == 1
    assert message in capsys.readouterr().err
