"""Evaluation: values, keys, files, refusals, and exact merging over two processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.metrics.accuracy import PassAtK
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.classes import ClassDiversity
from lightning_gfn.metrics.functional.estimates import distinct_correct, maj_at_k, pass_at_k
from lightning_gfn.reports.checks import fault_of_row
from lightning_gfn.solution_classes import EquationClasses, RougeClusters

KEY = re.compile(r"(val|test)/[A-Za-z0-9_.]+")


def run_test(
    make_trainer: Any, replay: Any, problems: list[Any], callback: Evaluation | None = None
) -> dict[str, float]:
    trainer = make_trainer(callback if callback is not None else Evaluation())
    found: dict[str, float] = trainer.test(replay.ReplayModule(), replay.make_loader(problems), verbose=False)[0]
    return found


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_values_equal_the_definitions(make_trainer: Any, replay: Any) -> None:
    problems = replay.make_problems(7)
    logged = run_test(make_trainer, replay, problems)
    for temperature, suffix in ((1.0, ""), (0.6, "_t0.6")):
        records = [replay.make_record(problem, temperature) for problem in problems]
        counts = [sum(record.correct) for record in records]
        kinds = [min(count, 1 + n % 3) for n, count in enumerate(counts)]
        expected = {
            "solve_rate": sum(counts) / 56,
            "pass_at_8": sum(pass_at_k(8, count, 8) for count in counts) / 7,
            "maj_at_8": sum(maj_at_k([text.split(": ")[1] for text in r.completions], r.correct, 8) for r in records)
            / 7,
            "distinct_correct_rouge_0.7": sum(distinct_correct(r.completions, r.correct, 0.7) for r in records) / 7,
            "coverage": sum(kinds[::2]) / 3 / 4,
            "completion_length_mean": sum(sum(record.lengths) for record in records) / 56,
            "entropy_mean": sum(sum(record.entropies) for record in records) / 56,
        }
        for name, value in expected.items():
            assert logged[f"test/{name}{suffix}"] == pytest.approx(value, abs=1e-6), name
    assert logged["test/solve_rate"] == pytest.approx(21 / 56)


def test_keys_and_intervals(make_trainer: Any, replay: Any) -> None:
    logged = run_test(make_trainer, replay, replay.make_problems(7))
    assert all(KEY.fullmatch(key) for key in logged)
    assert (
        "test/distinct_correct_rouge_0.7_expected" in logged and "test/distinct_correct_rouge_0.7_components" in logged
    )
    for name in ("solve_rate", "pass_at_1", "maj_at_8", "distinct_correct_rouge_0.7", "coverage"):
        for suffix in ("", "_t0.6"):
            key = f"test/{name}{suffix}"
            assert logged[f"{key}_ci95_low"] <= logged[key] <= logged[f"{key}_ci95_high"]
    assert logged["test/solve_rate_ci95_low"] < logged["test/solve_rate"]
    assert "test/entropy_mean_ci95_low" not in logged


def test_files_hold_every_problem_and_who_was_measured(
    make_trainer: Any, replay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    problems = replay.make_problems(5)
    trainer = make_trainer(Evaluation())
    module = replay.ReplayModule(method="vargrad")
    logged = trainer.test(module, replay.make_loader(problems[::-1]), verbose=False)[0]
    rows = read_rows(tmp_path / "results" / "test_problems.jsonl")
    assert [(row["problem_id"], row["temperature"]) for row in rows] == [
        (p.id, t) for p in problems for t in (1.0, 0.6)
    ]
    row = rows[6]
    assert (
        row["num_correct"] == 3
        and row["correct"] == [True] * 3 + [False] * 5
        and row["answers"][:4] == ["3"] * 3 + ["7"]
    )
    assert (
        row["metrics"]["solve_rate"] == 3 / 8 and "coverage" not in row["metrics"] and "coverage" in rows[4]["metrics"]
    )
    assert row["method"] == "vargrad" and row["seed"] == 5 and row["decoding"]["top_p"] == 0.9
    assert len(row["completions"]) == 8
    found = json.loads((tmp_path / "results" / "test_metrics.json").read_text())
    assert found["method"] == "vargrad" and found["seed"] == 5 and found["parameters"] == 3
    assert found["decoding"] == {"num_samples": 8, "temperatures": [1.0, 0.6], "top_k": None, "top_p": 0.9, "seed": 3}
    assert found["problems"]["count"] == 5
    for name in ("solve_rate", "solve_rate_t0.6", "distinct_correct_rouge_0.9_expected"):
        assert found["metrics"][name]["value"] == pytest.approx(logged[f"test/{name}"])
    mean = sum(row["metrics"]["distinct_correct_rouge_0.7"] for row in rows[::2]) / 5
    assert mean == pytest.approx(logged["test/distinct_correct_rouge_0.7"])
    assert trainer.logger.artifacts == [("test_problems.jsonl", "results"), ("test_metrics.json", "results")]


def test_rows_hold_the_class_of_each_right_sample(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    classes = [RougeClusters(0.7, "leaders"), EquationClasses()]
    metrics: list[PerProblemMetric] = [ClassDiversity(each) for each in classes]
    problems = replay.make_problems(5)
    logged = run_test(make_trainer, replay, problems, Evaluation(extra_metrics=metrics))
    assert all(KEY.fullmatch(key) for key in logged)
    rows = read_rows(tmp_path / "results" / "test_problems.jsonl")
    for row in rows:
        for each in classes:
            labels = row["classes"][each.name]
            assert [label is not None for label in labels] == row["correct"]
            assert row["metrics"][f"distinct_classes_{each.name}"] == len(set(labels) - {None})
    key = f"test/distinct_classes_{classes[0].name}"
    assert logged[key] == pytest.approx(logged["test/distinct_correct_rouge_0.7"]) and f"{key}_ci95_low" in logged
    assert f"{key}_solved" in logged and f"{key}_solved_ci95_low" not in logged
    assert f"{key.replace('distinct', 'effective')}_ci95_low" in logged
    run_test(make_trainer, replay, problems, Evaluation(extra_metrics=metrics, keep_completions=False))
    assert not any("classes" in row for row in read_rows(tmp_path / "results" / "test_problems.jsonl"))


def test_rows_hold_path_and_probability_of_each_reference_that_was_scored(
    make_trainer: Any, replay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    fabricated = replay.make_record

    def scored(problem: Any, temperature: float, num_samples: int = 8) -> Any:
        log_probs = tuple(-1.0 - place for place in range(len(problem.solutions))) if temperature == 1.0 else ()
        record = fabricated(problem, temperature, num_samples)
        return replace(record, reference_log_probs=log_probs, reference_actions=(3,) * len(log_probs))

    monkeypatch.setattr(replay, "make_record", scored)
    known, plain = replay.make_problems(2)
    known = replace(known, solutions=tuple(known.solution_set)[::-1])
    problems = [known, replace(plain, solutions=("1",))]
    run_test(make_trainer, replay, problems)
    path = tmp_path / "results" / "test_problems.jsonl"
    first, cold, other, _ = rows = read_rows(path)
    texts = known.solutions
    assert first["references"] == {text: [f"path {2 - n}", -1.0 - n] for n, text in enumerate(texts)}
    assert other["references"] == {"1": [None, -1.0]} and "references" not in cold
    assert all(fault_of_row(row, [1.0, 0.6]) is None for row in rows)
    for wrong in ({"1": -1.0}, {"1": [None]}, {"1": [3, -1.0]}, {"1": [None, 800.0]}, {"1": [None, "-1"]}, []):
        fault = fault_of_row({**other, "references": wrong}, [1.0, 0.6])
        assert fault is not None and "field 'references' is" in fault
    run_test(make_trainer, replay, problems, Evaluation(keep_completions=False))
    assert not any("references" in row for row in read_rows(path))


def test_rows_carry_the_plain_metadata_and_the_fingerprint_does_not(
    make_trainer: Any, replay: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    problems = replay.make_problems(3)
    fields = {"level": 2, "type": "Algebra", "share": 0.5, "hard": True, "note": None, "options": ["A"], "x": {"y": 1}}
    found = []
    for variant in (problems, [replace(problem, metadata=fields) for problem in problems]):
        run_test(make_trainer, replay, variant)
        rows = read_rows(tmp_path / "results" / "test_problems.jsonl")
        metrics = json.loads((tmp_path / "results" / "test_metrics.json").read_text())
        found.append((rows[0]["metadata"], metrics["problems"]["fingerprint"]))
    assert found[0][0] == {} and found[0][1] == found[1][1]
    assert found[1][0] == {"level": 2, "type": "Algebra", "share": 0.5, "hard": True, "note": None}


def test_the_fingerprint_tells_problem_sets_apart(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    problems = replay.make_problems(4)
    changed = [*problems[:3], replace(problems[3], answer="33")]
    marks = []
    for variant in (problems, problems[::-1], changed):
        run_test(make_trainer, replay, variant)
        marks.append(json.loads((tmp_path / "results" / "test_metrics.json").read_text())["problems"]["fingerprint"])
    assert marks[0] == marks[1] != marks[2]


def test_a_problem_seen_twice_counts_once(make_trainer: Any, replay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = replay.make_problems(4)
    padded = [*problems, problems[3], problems[3]]
    once = run_test(make_trainer, replay, problems)
    assert run_test(make_trainer, replay, padded) == once
    monkeypatch.setattr("lightning_gfn.callbacks.evaluation.merge_rows", lambda rows, temperatures: list(rows))
    planted = run_test(make_trainer, replay, padded)
    assert planted["test/solve_rate"] > once["test/solve_rate"] + 0.05


def test_validation_in_fit_skips_the_sanity_check(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    loader = replay.make_loader(replay.make_problems(6))
    trainer = make_trainer(Evaluation(), max_steps=3, num_sanity_val_steps=2)
    trainer.fit(replay.ReplayModule(), loader, loader)
    assert [row["val/solve_rate"] for row in trainer.logger.metrics if "val/solve_rate" in row] == [
        pytest.approx(15 / 48)
    ]
    assert {row["step"] for row in read_rows(tmp_path / "results" / "val_problems.jsonl")} == {3}
    assert not (tmp_path / "results" / "test_metrics.json").exists()


def test_a_test_of_a_checkpoint_names_its_step(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    loader = replay.make_loader(replay.make_problems(6))
    first = make_trainer(Evaluation(), max_steps=2)
    first.fit(replay.ReplayModule(), loader)
    first.save_checkpoint(tmp_path / "two.ckpt")
    make_trainer(Evaluation()).test(replay.ReplayModule(), loader, ckpt_path=tmp_path / "two.ckpt", verbose=False)
    assert json.loads((tmp_path / "results" / "test_metrics.json").read_text())["step"] == 2


def test_the_table_shows_headline_numbers(make_trainer: Any, replay: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_test(make_trainer, replay, replay.make_problems(6))
    lines = capsys.readouterr().out.splitlines()
    assert "replay, test: 6 problems, 95% intervals over problems" in lines
    row = next(line for line in lines if line.startswith("solve_rate "))
    assert re.search(r"0\.312 \[0\.\d{3}, 0\.\d{3}\] +1\.000 \[1\.000, 1\.000\]$", row)
    assert not any(line.startswith("distinct_correct_rouge_0.7_expected") for line in lines)


@pytest.mark.parametrize(
    ("num_samples", "ks", "majority_ks"), [(1, [1], [1]), (2, [1, 2], [2]), (8, [1, 8], [8]), (12, [1, 8], [8])]
)
def test_the_usual_k_is_8_or_all_samples(
    make_trainer: Any, replay: Any, num_samples: int, ks: list[int], majority_ks: list[int]
) -> None:
    """Fewer samples a problem need no other setting, and the results say which k they have."""
    module = replay.ReplayModule(drawing=replay.Drawing(num_samples=num_samples))
    trainer = make_trainer(Evaluation())
    logged = trainer.test(module, replay.make_loader(replay.make_problems(3)), verbose=False)[0]
    found = {key for key in logged if re.fullmatch(r"test/(pass|maj)_at_\d+", key)}
    assert found == {*(f"test/pass_at_{k}" for k in ks), *(f"test/maj_at_{k}" for k in majority_ks)}
    results = json.loads(next(Path(trainer.default_root_dir).rglob("test_metrics.json")).read_text())
    assert (results["metric_settings"]["ks"], results["metric_settings"]["majority_ks"]) == (ks, majority_ks)


def test_no_k_leaves_a_metric_out(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    logged = run_test(make_trainer, replay, replay.make_problems(3), Evaluation(ks=(), majority_ks=()))
    assert "test/solve_rate" in logged and not [key for key in logged if "maj_at" in key or "pass_at" in key]
    settings = json.loads((tmp_path / "results" / "test_metrics.json").read_text())
    assert '"majority_ks": []' in json.dumps(settings)


def test_a_k_beyond_the_samples_is_refused_before_sampling(make_trainer: Any, replay: Any) -> None:
    with pytest.raises(ValueError, match="k=16 but the module draws 8 samples"):
        run_test(make_trainer, replay, replay.make_problems(2), Evaluation(ks=(1, 16)))


def test_yaml_builds_it_with_a_metric_of_the_user(make_trainer: Any, replay: Any) -> None:
    parser = ArgumentParser()
    parser.add_argument("--callback", type=Callback)
    extra = {"class_path": "lightning_gfn.metrics.accuracy.PassAtK", "init_args": {"ks": [3]}}
    config = {
        "class_path": "lightning_gfn.callbacks.evaluation.Evaluation",
        "init_args": {"ks": [2], "thresholds": [0.65], "distinct_rules": ["components"], "extra_metrics": [extra]},
    }
    callback = parser.instantiate(parser.parse_object({"callback": config})).callback
    assert isinstance(callback, Evaluation) and isinstance(callback.extra_metrics[0], PassAtK)
    logged = run_test(make_trainer, replay, replay.make_problems(4), callback)
    assert {"test/pass_at_2", "test/pass_at_3", "test/distinct_correct_rouge_0.65_components"} <= logged.keys()
    assert "test/pass_at_8" not in logged and "test/distinct_correct_rouge_0.65" not in logged


@pytest.mark.ddp
def test_two_processes_give_what_one_gives(make_trainer: Any, replay: Any, run_ranks: Any, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    script = Path(__file__).parent / "two_ranks.py"
    folder.mkdir()
    run_ranks(script, folder)
    reports = [json.loads((folder / f"report{rank}.json").read_text()) for rank in (0, 1)]
    single = run_test(make_trainer, replay, replay.make_problems(7))
    for report in reports:
        assert report["world_size"] == 2
        assert report["logged"].keys() == single.keys()
        assert report["logged"] == pytest.approx(single, abs=1e-6)
    one, two = (read_rows(root / "results" / "test_problems.jsonl") for root in (tmp_path, folder))
    assert [row["metrics"] for row in two] == [row["metrics"] for row in one]
    assert [row["problem_id"] for row in two] == [row["problem_id"] for row in one]
    budget = reports[0]["budget"]
    assert budget == reports[1]["budget"] and budget["peak_memory_mib"] > 50
    assert budget["reward_calls"] == 16 and budget["generated_tokens"] == 80 and budget["optimizer_steps"] == 4
    predicted = read_rows(folder / "predictions" / "predictions.jsonl")
    assert list(dict.fromkeys(row["problem_id"] for row in predicted)) == [f"p{n:03d}" for n in range(7)]
    assert len(predicted) == 7 * 2 * 8
    shown = read_rows(folder / "samples" / "test_step_000004.jsonl")
    assert list(dict.fromkeys(row["problem_id"] for row in shown)) == ["p000", "p001", "p002"]
