"""Predictions: every sample once, in data-set order, nothing lost when killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.callbacks.common.costs import read_spent
from lightning_gfn.callbacks.predictions import PredictionWriter, merge_predictions


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sample_has_a_row_in_dataset_order(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    problems = replay.make_problems(5)[::-1]
    trainer = make_trainer(PredictionWriter())
    trainer.predict(replay.ReplayModule(), replay.make_loader(problems), return_predictions=False)
    rows = read_rows(tmp_path / "predictions" / "predictions.jsonl")
    assert len(rows) == 5 * 2 * 8
    assert list(dict.fromkeys(row["problem_id"] for row in rows)) == ["p004", "p003", "p002", "p001", "p000"]
    first = rows[8]
    assert first["problem_id"] == "p004" and first["temperature"] == 1.0 and first["sample"] == 0
    assert first["prompt"] == "How much is 4?" and first["log_prob"] == -1.0 and first["length"] == 14
    assert [row["correct"] for row in rows[8:16]] == [True] * 4 + [False] * 4
    assert trainer.logger.artifacts == [("predictions.jsonl", "predictions"), ("budget.json", "predictions")]


def test_what_sampling_cost_is_a_prior_budget(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    trainer = make_trainer(PredictionWriter())
    trainer.predict(replay.ReplayModule(), replay.make_loader(replay.make_problems(5)), return_predictions=False)
    spent = read_spent(tmp_path / "predictions" / "budget.json")
    rows = read_rows(tmp_path / "predictions" / "predictions.jsonl")
    assert spent["generated_tokens"] == sum(row["length"] for row in rows)
    assert spent["reward_calls"] == len(rows) == 80
    assert spent["gradient_tokens"] == spent["optimizer_steps"] == 0
    assert 0 < spent["wall_seconds"] < 60 and spent["peak_memory_mib"] > 50


def test_a_killed_run_keeps_its_batches(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    class Dies(replay.ReplayModule):  # type: ignore[name-defined, misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                rows = read_rows(tmp_path / "predictions" / "rank0.jsonl")
                assert len(rows) == 2 * 2 * 2 * 8
                raise KeyboardInterrupt
            return super().predict_step(batch, batch_idx)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        make_trainer(PredictionWriter()).predict(
            Dies(), replay.make_loader(replay.make_problems(6)), return_predictions=False
        )
    assert len(read_rows(tmp_path / "predictions" / "rank0.jsonl")) == 64
    assert not (tmp_path / "predictions" / "predictions.jsonl").exists()


def test_merging_interleaves_ranks_and_drops_padding(tmp_path: Path) -> None:
    def part(rank: int, ids: str) -> Path:
        path = tmp_path / f"rank{rank}.jsonl"
        lines = [
            json.dumps({"problem_id": i, "temperature": t, "sample": s})
            for t in (1.0, 0.5)
            for i in ids
            for s in (0, 1)
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    dataset = "zyxwv"  # the second rank is one short and repeats the first problem, as DistributedSampler pads
    parts = [part(0, dataset[0::2]), part(1, dataset[1::2] + "z")]
    merged = [json.loads(line) for line in merge_predictions(parts).splitlines()]
    assert [tuple(row.values()) for row in merged] == [(p, t, s) for p in dataset for t in (0.5, 1.0) for s in (0, 1)]
