"""Sample tables: which problems, which files, readable text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.callbacks.tables import SampleTable, fenced, samples_markdown


def test_the_first_problems_are_kept_at_every_temperature(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    trainer = make_trainer(SampleTable(num_problems=3, num_samples=2), max_steps=3, num_sanity_val_steps=2)
    loader = replay.make_loader(replay.make_problems(6))
    trainer.fit(replay.ReplayModule(), loader, loader)
    rows = [json.loads(line) for line in (tmp_path / "samples" / "step_000003.jsonl").open()]
    assert [(row["problem_id"], row["temperature"]) for row in rows] == [
        (f"p{n:03d}", t) for n in range(3) for t in (0.6, 1.0)
    ]
    assert rows[5]["num_correct"] == 2 and rows[5]["num_samples"] == 8 and len(rows[5]["samples"]) == 2
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step_000003.jsonl", "step_000003.md"]
    page = (tmp_path / "samples" / "step_000003.md").read_text()
    assert "## p002, temperature 1: 2 of 8 right" in page and "How much is 2?" in page
    assert ("step_000003.jsonl", "samples") in trainer.logger.artifacts


def test_a_test_run_has_its_own_file(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    make_trainer(SampleTable()).test(replay.ReplayModule(), replay.make_loader(replay.make_problems(2)), verbose=False)
    assert (tmp_path / "samples" / "test_step_000000.md").is_file()


def test_a_fence_is_longer_than_the_backticks_inside() -> None:
    assert fenced("a ``` b").startswith("````text\n")


def test_names_and_answers_mean_themselves() -> None:
    row = {"problem_id": "<b>a|b*", "temperature": 1.0, "num_samples": 1, "num_correct": 0, "prompt": "?"}
    page = samples_markdown([{**row, "answer": "x`</b>`\n# y", "samples": []}], "step 1")
    assert "## \\<b\\>a\\|b\\*, temperature" in page and "Reference answer: `` x`</b>` # y ``\n" in page


def test_a_step_that_returns_no_records_is_named(make_trainer: Any, replay: Any) -> None:
    class Wrong(replay.ReplayModule):  # type: ignore[name-defined, misc]
        def test_step(self, batch: Any, batch_idx: int) -> Any:
            return {"loss": 1.0}

    with pytest.raises(TypeError, match=r"test_step must return list\[EvalRecord\]"):
        make_trainer(SampleTable()).test(Wrong(), replay.make_loader(replay.make_problems(2)))
