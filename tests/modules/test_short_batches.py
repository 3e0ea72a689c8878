"""Rollout batches with fewer problems than minibatches: the last one of an epoch, and a process's share of a batch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.modules.settings import UpdateSettings
from lightning_gfn.modules.training_batch.rollout_window import has_idle_step, part_bounds

SCRIPT = Path(__file__).parent / "two_ranks_short.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("tests_modules_two_ranks_short", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def weights(module: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("num_units", range(1, 9))
def test_parts_hold_every_unit_once_and_empty_ones_are_spread(num_units: int) -> None:
    bounds = [part_bounds(num_units, part, 8) for part in range(8)]
    assert [i for start, end in bounds for i in range(start, end)] == list(range(num_units))
    assert {end - start for start, end in bounds} <= {0, 1}
    halves = [sum(end - start for start, end in half) for half in (bounds[:4], bounds[4:])]
    assert abs(halves[0] - halves[1]) <= 1


@pytest.mark.parametrize(
    ("units", "epochs", "parts", "accumulate", "idle"),
    [(8, 1, 8, 4, False), (4, 1, 8, 4, False), (2, 1, 8, 4, False), (1, 1, 8, 4, True), (7, 1, 8, 1, True),
     (1, 2, 8, 8, False), (1, 2, 8, 4, True), (3, 3, 2, 1, False), (1, 3, 2, 3, False), (1, 1, 2, 1, True)],
)  # fmt: skip
def test_steps_without_anything_are_found(units: int, epochs: int, parts: int, accumulate: int, idle: bool) -> None:
    assert has_idle_step(units, UpdateSettings(epochs, parts), accumulate) is idle


@pytest.mark.parametrize("name", ["groups", "trajectories"])
def test_a_run_goes_past_the_end_of_an_epoch(script: ModuleType, name: str) -> None:
    """Three problems in four parts; with groups the first is empty, and a step on it alone moves nothing."""
    module = script.make_module(name)
    moved: list[float] = []
    sizes: list[float] = []

    class Watch(script.L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            self.before = weights(module)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            after = weights(module)
            moved.append(max((after[key] - self.before[key]).abs().max().item() for key in after))
            sizes.append(trainer.callback_metrics["train/minibatch_trajectories"].item())

    trainer = script.train(module, 16, 1, callbacks=[Watch()])
    assert trainer.global_step == 16 and module.num_rollout_batches == 4 and module.window is None
    full = [3.0] * 4
    short = [0.0, 3.0, 3.0, 3.0] if name == "groups" else [2.0, 2.0, 2.0, 3.0]
    assert sizes == (full + short) * 2
    assert [size == 0.0 for size in moved] == [size == 0.0 for size in sizes]


@pytest.mark.parametrize("name", ["groups", "trajectories"])
def test_accumulated_parts_are_one_update_on_the_whole_batch(script: ModuleType, name: str) -> None:
    parts, whole = script.make_module(name), script.make_module(name, UpdateSettings())
    script.train(parts, 5, 4)
    script.train(whole, 5, 1)
    torch.testing.assert_close(weights(parts), weights(whole), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["groups", "trajectories"])
@pytest.mark.parametrize("cut", [5, 6])
def test_a_run_resumes_inside_a_short_batch(script: ModuleType, name: str, cut: int, tmp_path: Path) -> None:
    straight, first, resumed = (script.make_module(name) for _ in range(3))
    script.train(straight, 10, 1)
    save = script.Save(tmp_path / "cut.ckpt", cut)
    script.train(first, cut, 1, callbacks=[save])
    assert save.problems == 3
    script.train(resumed, 10, 1, tmp_path / "cut.ckpt")
    one, other = weights(straight), weights(resumed)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_settings_that_cannot_work_are_refused_at_set_up(script: ModuleType) -> None:
    module = script.make_module("groups", UpdateSettings(num_minibatches=8))
    with pytest.raises(ValueError, match="1 processes 4 problems.*num_minibatches=8.*accumulate_grad_batches=1.*raise"):
        script.train(module, 1, 1)
    assert not module.is_built
    module = script.make_module("groups")
    with pytest.raises(ValueError, match="limit_train_batches=6 ends an epoch after 6 of 8.*multiple of 4"):
        script.train(module, 1, 1, limit_train_batches=6)
    with pytest.raises(ValueError, match="limit_train_batches=0.4 ends an epoch after 3 of 8.*multiple of 4"):
        script.train(module, 1, 1, limit_train_batches=0.4)
    assert not module.is_built
    script.train(module, 5, 1, limit_train_batches=4)
    script.train(script.make_module("groups"), 1, 1, limit_train_batches=100)


def test_a_process_without_problems_is_refused_at_set_up(script: ModuleType) -> None:
    data = script.Letters(batch_size=6)
    data.trainer = SimpleNamespace(global_rank=0, world_size=2, lightning_module=None, limit_val_batches=0)
    with pytest.raises(ValueError, match="a batch of 1 problems, fewer than the 2 processes"):
        data.setup("fit")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., None]) -> Path:
    """The folder in which two processes left what they ended with."""
    folder = tmp_path_factory.mktemp("short")
    run_ranks(SCRIPT, folder)
    return folder


@pytest.mark.ddp
@pytest.mark.parametrize("name", ["groups", "trajectories"])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_two_processes_step_together(name: str, accumulate: int, script: ModuleType, reports: Path) -> None:
    """Shares of 2 and 2, then of 2 and 1 problems in four parts; one step a batch is that of one process."""
    first, second = (torch.load(reports / f"{name}{accumulate}_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["world_size"] == 2 and first["steps"] == second["steps"] == script.STEPS[accumulate]
    assert all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
    if accumulate == 4:
        alone = script.make_module(name)
        script.train(alone, script.STEPS[4], 4)
        torch.testing.assert_close(first["weights"], dict(alone.state_dict()), atol=1e-5, rtol=1e-4)


@pytest.mark.ddp
@pytest.mark.parametrize("name", ["groups", "trajectories"])
def test_two_processes_resume_inside_a_short_batch(name: str, reports: Path) -> None:
    for rank in (0, 1):
        report = torch.load(reports / f"{name}2_{rank}.pt", weights_only=True)
        assert report["cut"] == 2 - rank, "the window that was saved has so many problems"
        whole = report["weights"]
        resumed = torch.load(reports / f"{name}_resumed_{rank}.pt", weights_only=True)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
