"""Training on preferences, labels, feedback and proofs on two gloo processes: the weights are those of one process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

SCRIPT = Path(__file__).parent / "two_ranks.py"
Reports = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("tests_modules_two_ranks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, script: ModuleType, run_ranks: Callable[..., None]) -> Reports:
    """What the two processes end with, for every module."""
    folder = tmp_path_factory.mktemp("two")
    run_ranks(SCRIPT, folder)
    return {
        name: [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(2)]
        for name in script.EXAMPLES
    }


def joined(batches: list[list[Any]]) -> list[list[Any]]:
    """The batches of one process that sees what two see in a step."""
    return [one + other for one, other in zip(batches[::2], batches[1::2], strict=True)]


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two states."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.ddp
@pytest.mark.parametrize("name", ["preference", "single", "reward_model", "distillation", "proofs", "classes"])
def test_two_processes_train_as_one(name: str, reports: Reports, script: ModuleType) -> None:
    """Shares of different size. KTO has a reference point a micro-batch, so one process takes two of them a step."""
    first, second = reports[name]
    assert first["world_size"] == second["world_size"] == 2, "world_size must be 2"
    assert first["backend"] == "gloo" and first["steps"] == second["steps"] == 2
    assert distance(first["weights"], second["weights"]) == 0.0
    batches = script.EXAMPLES[name]
    if name == "single":
        alone = script.train(name, batches, devices=1, accumulate_grad_batches=2)
    else:
        alone = script.train(name, joined(batches), devices=1)
    torch.testing.assert_close(first["weights"], dict(alone.state_dict()), atol=1e-5, rtol=1e-4)
    half = script.train(name, batches[::2], devices=1)
    assert distance(first["weights"], half.state_dict()) > 1e-3, "the second process contributes"


@pytest.mark.ddp
@pytest.mark.parametrize("name", ["preference", "single", "reward_model", "distillation", "proofs", "classes"])
def test_two_processes_that_cut_their_batches_train_alike(name: str, reports: Reports, script: ModuleType) -> None:
    """A pass is no time to wait for the other process: it has another number of them."""
    first, second = reports[f"{name}{script.CUT}"]
    assert distance(first["weights"], second["weights"]) == 0.0
    torch.testing.assert_close(first["weights"], reports[name][0]["weights"], atol=1e-5, rtol=1e-4)


@pytest.mark.ddp
@pytest.mark.parametrize("name", ["preference", "single"])
def test_every_process_knows_all_reference_scores(name: str, reports: Reports, script: ModuleType) -> None:
    """A checkpoint holds what both have scored; a completion that the other process has scored is not scored again."""
    first, second = reports[name]
    alone = script.train(name, joined(script.EXAMPLES[name]), devices=1)
    assert first["known"] == second["known"]
    assert first["known"] == pytest.approx(alone.reference.known, abs=1e-5)
    scored = first["num_scored"] + second["num_scored"]
    if name == "preference":
        assert scored == len(first["known"]) == alone.reference.num_scored, "nothing is scored twice"


@pytest.mark.ddp
def test_two_processes_estimate_classes_from_the_trajectories_of_both(reports: Reports, script: ModuleType) -> None:
    first, second = (report["learned"] for report in reports["classes"])
    assert first == second and first["count"] == 6 * sum(map(len, script.CLASSES))
    assert set(first["totals"]) == {"c0", "c1", "c2", ""}
    alone = script.train("classes", joined(script.CLASSES), devices=1).reward.state_dict()
    assert alone["count"] == first["count"]
    for problem, total in first["totals"].items():
        assert alone["totals"][problem] == pytest.approx(total, abs=1e-4)
