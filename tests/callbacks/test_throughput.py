"""Budgets: what is counted, what survives a checkpoint, where training stops."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.callbacks.throughput import Budget


def test_counts_are_summed_logged_and_written(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    budget = Budget()
    trainer = make_trainer(budget, max_steps=5)
    trainer.fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)))
    assert budget.spent == {"generated_tokens": 50, "reward_calls": 10, "gradient_tokens": 500}
    logged = {key: value for row in trainer.logger.metrics for key, value in row.items()}
    assert logged["budget/generated_tokens"] == 50
    assert logged["budget/optimizer_steps"] == 5
    assert logged["budget/wall_seconds"] > 0
    assert logged["budget/peak_memory_mib"] > 50
    written = json.loads((tmp_path / "budget.json").read_text())
    assert written["generated_tokens"] == 50 and written["optimizer_steps"] == 5


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        ({"max_generated_tokens": 30}, 3),
        ({"max_reward_calls": 5}, 3),
        ({"max_gradient_tokens": 101}, 2),
        ({"max_optimizer_steps": 4}, 4),
    ],
)
def test_training_stops_at_the_first_batch_that_reaches_a_limit(
    make_trainer: Any, replay: Any, limit: dict[str, int], steps: int
) -> None:
    trainer = make_trainer(Budget(**limit), max_steps=10)
    trainer.fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)))
    assert trainer.global_step == steps


def test_seconds_count_training_but_not_validation(make_trainer: Any, replay: Any) -> None:
    class Slow(replay.ReplayModule):  # type: ignore[name-defined, misc]
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
            time.sleep(0.05)
            result: dict[str, Any] = super().training_step(batch, batch_idx)
            return result

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.3)
            return super().validation_step(batch, batch_idx)

    budget = Budget()
    loader = replay.make_loader(replay.make_problems(6))
    trainer = make_trainer(budget, max_steps=6)
    trainer.fit(Slow(), loader, loader)
    assert 0.3 <= budget.wall_seconds < 1.8  # the six validation batches alone take 1.8 s

    limited = make_trainer(Budget(max_wall_seconds=0.12), max_steps=100)
    limited.fit(Slow(), loader)
    assert 1 <= limited.global_step <= 3


def test_a_resumed_run_counts_on(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    first = make_trainer(Budget(), max_steps=2)
    loader = replay.make_loader(replay.make_problems(6))
    first.fit(replay.ReplayModule(), loader)
    first.save_checkpoint(tmp_path / "two.ckpt")
    torch.load(tmp_path / "two.ckpt", weights_only=True)
    budget = Budget()
    make_trainer(budget, max_steps=5).fit(replay.ReplayModule(), loader, ckpt_path=tmp_path / "two.ckpt")
    assert budget.spent["generated_tokens"] == 50
    assert budget.optimizer_steps == 5


def test_a_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="max_reward_calls must be positive"):
        Budget(max_reward_calls=0)
