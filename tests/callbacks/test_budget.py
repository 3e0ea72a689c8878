"""Budgets: what is counted, what survives a checkpoint, where training stops."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.callbacks.budget import Budget
from lightning_gfn.callbacks.common.costs import PEAK, SUMMED, label_keys, peak_memory_mib, reset_peak_memory
from lightning_gfn.preference_types import Preference
from lightning_gfn.types import Problem


def test_counts_are_summed_logged_and_written(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    budget = Budget()
    trainer = make_trainer(budget, max_steps=5)
    trainer.fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)))
    assert budget.spent == {"generated_tokens": 50, "reward_calls": 10, "gradient_tokens": 500, "environment_steps": 0}
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


def test_labels_are_different_problems_and_processor_time_is_counted(
    make_trainer: Any, replay: Any, tmp_path: Path, earlier: Path
) -> None:
    """Six problems in batches of two: four steps read all of them, no epoch counts one again."""
    loader = replay.make_loader(replay.make_problems(6))
    budgets = [Budget(), Budget(prior=[str(earlier)])]
    for budget, steps in zip(budgets, (2, 4), strict=True):
        trainer = make_trainer(budget, max_steps=steps)
        trainer.fit(replay.ReplayModule(), loader)
        assert 0 < budget.processor_seconds < 20
    assert [len(budget.labels) for budget in budgets] == [4, 6]
    resumed = Budget()
    resumed.load_state_dict(budgets[0].state_dict())
    assert resumed.labels == budgets[0].labels < budgets[1].labels and resumed.own() == budgets[0].own()
    written = json.loads((tmp_path / "budget.json").read_text())
    assert written["labels"] == written["own"]["labels"] == 6
    more = Path(earlier)
    more.write_text(json.dumps({**json.loads(more.read_text()), "labels": 40, "processor_seconds": 7.0}))
    chained = Budget(prior=[str(tmp_path / "budget.json"), str(more)])
    chained.setup(trainer, replay.ReplayModule(), "fit")
    assert chained.totals()["labels"] == 40, "stages are taken to read the same problems"
    assert chained.totals()["processor_seconds"] == pytest.approx(7.0 + written["processor_seconds"])


def test_what_a_label_is() -> None:
    plain = Problem(id="a", prompt="x")
    assert label_keys([plain]) == set()
    answered = [replace(plain, answer="1"), replace(plain, id="b", solutions=("1",)), replace(plain, evidence=" 1")]
    assert len(label_keys(answered)) == 1, "one prompt"
    assert len(label_keys([Preference(id="p", prompt="y", chosen="1", rejected="2"), answered[0]])) == 2
    assert label_keys(torch.zeros(3)) == label_keys(["text"]) == set()


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


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """What a stage of sampling left."""
    path = tmp_path / "sampling" / "budget.json"
    path.parent.mkdir()
    spent = {"generated_tokens": 25, "reward_calls": 3, "gradient_tokens": 0, "optimizer_steps": 0}
    path.write_text(json.dumps({**spent, "wall_seconds": 100.5, "peak_memory_mib": 1e6}))
    return path


def test_earlier_stages_count_and_limit(make_trainer: Any, replay: Any, tmp_path: Path, earlier: Path) -> None:
    budget = Budget(max_generated_tokens=50, prior=[str(earlier)])
    trainer = make_trainer(budget, max_steps=10)
    trainer.fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)))
    assert trainer.global_step == 3
    written = json.loads((tmp_path / "budget.json").read_text())
    assert written["generated_tokens"] == 55 and written["reward_calls"] == 9 and written["optimizer_steps"] == 3
    assert written["wall_seconds"] == pytest.approx(written["own"]["wall_seconds"] + 100.5)
    assert written["peak_memory_mib"] == 1e6 and 50 < written["own"]["peak_memory_mib"] < 1e5
    assert written["own"]["generated_tokens"] == 30
    assert written["prior"][str(earlier)]["generated_tokens"] == 25
    logged = {key: value for row in trainer.logger.metrics for key, value in row.items()}
    assert logged["budget/generated_tokens"] == 55 and logged["budget/wall_seconds"] > 100.5
    assert ("budget.json", None) in trainer.logger.artifacts
    chained = Budget(prior=[str(tmp_path / "budget.json")])
    chained.setup(trainer, replay.ReplayModule(), "fit")
    assert chained.totals()["generated_tokens"] == 55


def test_a_run_at_its_limit_takes_no_further_step(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    loader = replay.make_loader(replay.make_problems(6))
    first = make_trainer(Budget(max_generated_tokens=20), max_steps=9)
    first.fit(replay.ReplayModule(), loader)
    first.save_checkpoint(tmp_path / "full.ckpt")
    (tmp_path / "budget.json").unlink()
    module = replay.ReplayModule()
    again = make_trainer(Budget(max_generated_tokens=20), max_steps=9)
    again.fit(module, loader, ckpt_path=tmp_path / "full.ckpt")
    assert first.global_step == again.global_step == 2
    assert json.loads((tmp_path / "budget.json").read_text())["generated_tokens"] == 20
    further = make_trainer(Budget(max_generated_tokens=30), max_steps=9)
    further.fit(module, loader, ckpt_path=tmp_path / "full.ckpt")
    assert further.global_step == 3


def test_a_finished_run_writes_its_budget_again(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    loader = replay.make_loader(replay.make_problems(6))
    first = make_trainer(Budget(), max_steps=2)
    first.fit(replay.ReplayModule(), loader)
    first.save_checkpoint(tmp_path / "two.ckpt")
    (tmp_path / "budget.json").unlink()
    make_trainer(Budget(), max_steps=2).fit(replay.ReplayModule(), loader, ckpt_path=tmp_path / "two.ckpt")
    assert json.loads((tmp_path / "budget.json").read_text())["reward_calls"] == 4


def test_peak_memory_is_that_of_this_stage_and_survives_a_resume(make_trainer: Any, replay: Any) -> None:
    ballast = bytearray(300 * 2**20)
    held = peak_memory_mib(torch.device("cpu"))
    del ballast
    budget = Budget()
    make_trainer(budget, max_steps=1).fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(2)))
    if reset_works():
        assert budget.peak_memory < held - 200
    resumed = Budget()
    resumed.load_state_dict({**budget.state_dict(), "peak_memory_mib": 1e6})
    make_trainer(resumed, max_steps=1).fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(2)))
    assert resumed.own()["peak_memory_mib"] == 1e6


def reset_works() -> bool:
    """Whether this system can forget a peak."""
    ballast = bytearray(100 * 2**20)
    before = peak_memory_mib(torch.device("cpu"))
    del ballast
    reset_peak_memory(torch.device("cpu"))
    return peak_memory_mib(torch.device("cpu")) < before - 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: finish that stage first"),
        ("[1]", "is malformed"),
        ('{"generated_tokens": 1}', "reward_calls"),
        (json.dumps(dict.fromkeys((*SUMMED, PEAK), -1)), "generated_tokens must be a number of at least 0"),
    ],
)
def test_bad_earlier_budgets_are_refused(replay: Any, tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "prior.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        Budget(prior=[str(path)]).setup(replay, replay.ReplayModule(), "fit")
    with pytest.raises(ValueError, match="names a budget file twice"):
        Budget(prior=["a", "a"])


def test_a_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="max_reward_calls must be positive"):
        Budget(max_reward_calls=0)
