"""Filtering samples and building preferences: every rule, noise, errors with file, line and field."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn import cli
from lightning_gfn.answers.noise import flipped
from lightning_gfn.commands.self_training.pairs import labelled, paired
from lightning_gfn.solution_classes import EquationClasses
from lightning_gfn.studies.samples import Filter, Sample, SampleError, different, read_samples
from lightning_gfn.types import Problem


def sample(text: str, correct: bool = True, *, truncated: bool = False, problem: str = "p") -> Sample:
    return Sample(problem, "question\n", text, correct, truncated)


def rows_of(samples: list[Sample]) -> list[dict[str, Any]]:
    return [
        {
            "problem_id": s.problem_id,
            "prompt": s.prompt,
            "completion": s.completion,
            "correct": s.correct,
            "truncated": s.truncated,
        }
        for s in samples
    ]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


SAMPLES = [
    sample("2 * 3 = 6 so the answer is 6"),
    sample("2 * 3 = 7", correct=False),
    sample("2  *  3 = 6 so\nThe answer is 6"),
    sample("6 because 2 * 3 = 6 ."),
    sample("3 + 3 = 6 so the answer is 6"),
    sample("2 + 4 = 6", truncated=True),
    sample("just six"),
    sample("six, simply"),
]


@pytest.mark.parametrize(
    ("settings", "kept", "dropped"),
    [
        ({}, [0, 3, 4, 6, 7], {"wrong": 1, "truncated": 1, "duplicate": 1}),
        ({"keep_cut": True}, [0, 3, 4, 5, 6, 7], {"wrong": 1, "duplicate": 1}),
        ({"distinct": "equations"}, [0, 4, 6, 7], {"wrong": 1, "truncated": 1, "duplicate": 1, "same_path": 1}),
        (
            {"distinct": "rouge", "threshold": 0.8},
            [0, 3, 6, 7],
            {"wrong": 1, "truncated": 1, "duplicate": 1, "same_path": 1},
        ),
        (
            {"distinct": "equations", "max_per_problem": 2},
            [0, 4],
            {"wrong": 1, "truncated": 1, "duplicate": 1, "same_path": 1, "beyond_limit": 2},
        ),
    ],
)  # fmt: skip
def test_every_rule_of_the_filter(settings: dict[str, Any], kept: list[int], dropped: dict[str, int]) -> None:
    counts: Counter[str] = Counter()
    assert Filter(**settings)(SAMPLES, counts) == [SAMPLES[i].completion for i in kept]
    assert +counts == dropped
    assert len(SAMPLES) == len(kept) + counts.total()


def test_every_class_gets_equal_shares() -> None:
    texts = ["1 + 1 = 2", "so 1 + 1 = 2", "we get 1 + 1 = 2", "2 * 1 = 2", "4 / 2 = 2", "4 / 2 = 2 it is"]
    samples = [sample("9", correct=False), sample("1  + 1 = 2"), *map(sample, texts)]
    classes = EquationClasses("sequence")
    dropped: Counter[str] = Counter()
    kept = Filter(classes=classes)(samples, dropped)
    labels = classes.labels(Problem("p", ""), kept)
    assert Counter(labels) == {"1+1=2": 3, "2*1=2": 3, "4/2=2": 3}
    assert Counter(kept) == dict(zip(["1  + 1 = 2", *texts[1:]], (1, 1, 1, 3, 2, 1), strict=True))
    assert +dropped == {"wrong": 1, "duplicate": 1}
    for limit, share in ((8, 2), (6, 2), (5, 1), (3, 1)):
        limited = Filter(classes=classes, max_per_problem=limit)(samples, Counter())
        assert Counter(classes.labels(Problem("p", ""), limited)) == {"1+1=2": share, "2*1=2": share, "4/2=2": share}
    assert Filter(classes=classes, max_per_problem=2)(samples, Counter()) == ["1  + 1 = 2", "2 * 1 = 2"]
    assert Filter(classes=classes)([sample("x", correct=False)], Counter()) == []


def test_class_balanced_rft_writes_copies_that_training_reads(tmp_path: Path) -> None:
    texts = ["1 + 1 = 2", "so 1 + 1 = 2", "2 * 1 = 2"]
    predictions = write(tmp_path / "predictions.jsonl", *rows_of([sample(text) for text in texts]))
    output = tmp_path / "solutions.jsonl"
    command = ["rft", "--predictions", str(predictions), "--output", str(output), "--distinct", "none"]
    assert cli.main([*command, "--classes", "equations"]) == 0
    (row,) = read_rows(output)
    assert row["completions"] == ["1 + 1 = 2", "2 * 1 = 2", "so 1 + 1 = 2"] and row["copies"] == [1, 2, 1]
    assert json.loads(output.with_suffix(".summary.json").read_text())["kept"] == 3
    assert cli.main([*command, "--classes", "known_paths"]) == 2
    assert cli.main([*command, "--classes", "paths"]) == 2
    assert cli.main(command) == 0 and "copies" not in read_rows(output)[0]


def test_the_rouge_filter_is_the_greedy_loop_over_the_package() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    texts = [f"take {a} and {b} and get {a + b} {'in all' * (a % 2)}" for a in range(4) for b in range(4)]
    counts = []
    for threshold in (0.6, 0.7, 0.75, 0.8, 1.0):
        kept: list[str] = []
        for text in texts:
            if all(scorer.score(text, other)["rougeL"].fmeasure < threshold for other in kept):
                kept.append(text)
        found = Filter("rouge", threshold)([sample(text) for text in texts], Counter())
        assert found == kept
        counts.append(len(kept))
    assert counts == sorted(counts) and len(set(counts)) >= 3


def test_rft_writes_what_the_data_read_and_says_what_it_dropped(tmp_path: Path) -> None:
    other = [sample("no", correct=False, problem="q"), sample("nope", correct=False, problem="q")]
    predictions = write(tmp_path / "predictions.jsonl", *rows_of([*SAMPLES[:2], *other, *SAMPLES[2:]]))
    output = tmp_path / "deep" / "solutions.jsonl"
    assert cli.main(["rft", "--predictions", str(predictions), "--output", str(output), "--max_per_problem", "3"]) == 0
    texts = [SAMPLES[i].completion for i in (0, 4, 6)]
    assert read_rows(output) == [{"problem_id": "p", "prompt": "question\n", "completions": texts}]
    assert json.loads(output.with_suffix(".summary.json").read_text()) == {
        "problems": 2, "problems_kept": 1, "samples": 10, "kept": 3,
        "dropped": {"wrong": 3, "truncated": 1, "duplicate": 1, "same_path": 1, "beyond_limit": 1},
    }  # fmt: skip


def test_all_wrong_samples_leave_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = write(tmp_path / "predictions.jsonl", *rows_of([sample("no", correct=False)]))
    output = str(tmp_path / "out.jsonl")
    assert cli.main(["rft", "--predictions", str(predictions), "--output", output]) == 2
    assert "no sample is correct" in capsys.readouterr().err
    assert cli.main(["pairs", "--predictions", str(predictions), "--output", output]) == 2
    assert "no problem has both" in capsys.readouterr().err
    assert not Path(output).exists()


def test_verdicts_are_turned_over_as_the_rewards_are(tmp_path: Path) -> None:
    texts = [f"{i}\nThe answer is: {i}" for i in range(200)]
    samples = [sample(text, correct=i % 2 == 0) for i, text in enumerate(texts)]
    path = write(tmp_path / "predictions.jsonl", *rows_of([*samples, sample("no answer here", correct=False)]))
    clean, noisy = (read_samples(path, flip_probability=p, flip_seed=3)["p"] for p in (0.0, 0.3))
    assert [s.correct for s in clean] == [*(s.correct for s in samples), False]
    for before, after in zip(clean[:-1], noisy[:-1], strict=True):
        turned = flipped("p", before.completion, probability=0.3, seed=3)
        assert after.correct == (before.correct != turned)
    changed = sum(a.correct != b.correct for a, b in zip(clean, noisy, strict=True))
    assert 30 < changed < 90
    everything = read_samples(path, flip_probability=1.0)["p"]
    assert [s.correct for s in everything] == [*(not s.correct for s in samples), False]


def test_pairs_are_right_against_wrong_each_once_and_spread() -> None:
    right, wrong = [sample(f"r{i}") for i in range(3)], [sample(f"w{i}", correct=False) for i in range(4)]
    group = [*right, *wrong, sample("R0"), sample("cut", truncated=True), sample("w1 ", correct=False)]
    every = list(paired(group, 100, seed=0))
    found = [(row["chosen"], row["rejected"]) for row in every]
    assert len(found) == len(set(found)) == 12
    assert set(found) == {(r.completion, w.completion) for r in right for w in wrong}
    four = list(paired(group, 4, seed=0))
    assert four == every[:4] == list(paired(group, 4, seed=0))
    assert len({row["chosen"] for row in four}) == 3 and len({row["rejected"] for row in four}) >= 3
    assert any(list(paired(group, 4, seed=seed)) != four for seed in range(1, 5))
    assert {row["problem_id"] for row in every} == {"p"} and {row["prompt"] for row in every} == {"question\n"}
    assert list(paired(right, 4, seed=0)) == list(paired(wrong, 4, seed=0)) == []


def test_unpaired_rows_hold_at_most_so_many_of_each_label() -> None:
    group = [*(sample(f"r{i}") for i in range(5)), sample("w", correct=False), sample("cut", truncated=True)]
    rows = list(labelled(group, 3, seed=0))
    assert Counter(row["label"] for row in rows) == {True: 3, False: 1}
    assert all(row["label"] == row["completion"].startswith("r") for row in rows)


def test_unpaired_files_count_both_sides(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.jsonl", *rows_of(SAMPLES))
    output = tmp_path / "kto.jsonl"
    assert cli.main(["pairs", "--predictions", str(path), "--output", str(output), "--unpaired"]) == 0
    summary = json.loads(output.with_suffix(".summary.json").read_text())
    assert (summary["desirable"], summary["undesirable"]) == (4, 1)
    assert sum(row["label"] for row in read_rows(output)) == 4


def test_the_first_of_equal_texts_stays_in_its_place() -> None:
    group = [sample("a b"), sample("c"), sample("A  b"), sample("c ")]
    assert different(group) == group[:2]


GOOD = rows_of([sample("a")])[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not a line of JSON"),
        ([1], "expected a JSON object, found list"),
        ({**GOOD, "correct": "yes"}, "field 'correct': expected bool"),
        ({**GOOD, "completion": None}, "field 'completion': expected str"),
        ({key: value for key, value in GOOD.items() if key != "problem_id"}, "field 'problem_id'"),
    ],
)
def test_a_bad_row_names_file_line_and_field(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=rf"predictions\.jsonl:2: {message}"):
        read_samples(write(tmp_path / "predictions.jsonl", GOOD, row))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rft"], "give --config and --run_dir to sample and train, or --predictions and --output"),
        (["rft", "--predictions", "x", "--output", "y", "--run_dir", "z"], "give --config"),
        (["rft", "--output", "y"], "--output needs --predictions"),
        (["rft", "--predictions", "x", "--output", "y", "--distnct", "rouge"], "leave out --distnct rouge"),
        (["rft", "--run_dir", "z"], "--run_dir needs --config"),
        (["rft", "--predictions", "nowhere", "--output", "y"], "nowhere does not exist"),
        (["rft", "--predictions", "x", "--output", "y", "--threshold", "0"], "--threshold is 0.0"),
        (["rft", "--predictions", "x", "--output", "y", "--max_per_problem", "0"], "--max_per_problem is 0"),
        (["pairs", "--predictions", "x", "--output", "y", "--pairs_per_problem", "0"], "--pairs_per_problem is 0"),
        (["pairs", "--predictions", "x", "--output", "y", "--flip_probability", "2"], "probability is 2.0"),
        (["star"], "give --config and --run_dir to sample and train"),
        (["star", "--config", "x", "--run_dir", "y", "--rounds", "0"], "--rounds is 0"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


STEPS = [
    {"prompt": "⊢ p\n--\n", "tactic": "intro h", "failed": False},
    {"prompt": "h : p\n⊢ p\n--\nintro h\n--\n", "tactic": "exact h", "failed": False},
]
FAILED = [STEPS[0], {"prompt": STEPS[1]["prompt"], "tactic": "exact q", "failed": True}]


def proof_row(steps: Any, correct: bool) -> dict[str, Any]:
    return {"problem_id": "t", "prompt": "theorem t", "completion": "", "correct": correct, "steps": steps}


def test_attempts_at_proofs_are_read_tactic_by_tactic(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.jsonl", proof_row(STEPS, True), proof_row(FAILED, False))
    groups = list(read_samples(path).values())
    read = [[(s.completion, s.correct) for s in group] for group in groups]
    assert read == [[("intro h", True)], [("exact h", True), ("exact q", False)]]
    pairs = [row for group in groups for row in paired(group, 4, 0)]
    assert pairs == [{"prompt": STEPS[1]["prompt"], "chosen": "exact h", "rejected": "exact q"}]
    cli.main(["rft", "--predictions", str(path), "--output", str(tmp_path / "tactics.jsonl"), "--distinct", "none"])
    kept = [{"prompt": step["prompt"], "completions": [step["tactic"]]} for step in STEPS]
    assert read_rows(tmp_path / "tactics.jsonl") == kept


def test_malformed_steps_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.jsonl", proof_row([{"prompt": "x"}], True))
    with pytest.raises(SampleError, match=r"predictions.jsonl:1: field 'steps'"):
        read_samples(path)
