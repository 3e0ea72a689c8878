"""Training with weights cut over two gloo processes: all of it is as on one process that holds them whole."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.tracking.checkpoint_io import WholeCheckpointIO

SCRIPT = Path(__file__).parent / "two_shards.py"
QUICK = ["sft", "sft adapter", "vargrad", "grpo", "ppo"]
FURTHER = ["sft lora", "sft t5", "vargrad gpt2", "subtb", "tb", "preference", "distillation", "reward_model"]
RESUMED = {"sft adapter", "grpo", "ppo", "sft lora", "distillation"}
Folders = Callable[[str], Path]
CLOSE = {"atol": 2e-6, "rtol": 1e-5}

pytestmark = pytest.mark.ddp


def each(chosen: Collection[str]) -> list[Any]:
    """The methods, all but the quick ones marked as slow."""
    further = [pytest.param(name, marks=pytest.mark.slow) for name in FURTHER if name in chosen]
    return [*(name for name in QUICK if name in chosen), *further]


@pytest.fixture(autouse=True)
def no_process_group_is_left() -> Iterator[None]:
    """The trainer opens a process group and names its port in the environment, for all tests to come."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("tests_sharding_two_shards", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder_of(
    tmp_path_factory: pytest.TempPathFactory, script: ModuleType, run_ranks: Callable[..., None]
) -> Callable[[str], Path]:
    """Where two processes leave reports, checkpoints and models of a method, after one process left its own there."""

    @cache
    def trained(quick: bool) -> Path:
        folder = tmp_path_factory.mktemp("shards")
        methods = QUICK if quick else FURTHER
        if "sft adapter" in methods:
            torch.manual_seed(1)
            base = script.policy(None)
            base.build(())
            base.save_pretrained(folder / "base")
            script.BASE.append(folder / "base")
        for name in RESUMED & set(methods):
            alone = script.train(name, script.joined(script.batches_of(name)), devices=1)
            alone.trainer.save_checkpoint(folder / f"{name}.one")
        names = [*methods, *(() if quick else ("short",)), *(f"{name}{script.IN_PASSES}" for name in methods)]
        run_ranks(SCRIPT, folder, *names)
        return folder

    return lambda name: trained(name in QUICK)


@pytest.fixture(scope="module")
def alone(script: ModuleType) -> Callable[[str], Any]:
    """The module that one process has trained on what two see in a step."""
    return cache(lambda name: script.train(name, script.joined(script.batches_of(name)), devices=1))


def reports(folder: Path, name: str) -> list[dict[str, Any]]:
    """What the two processes ended with."""
    return [torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(2)]


def plain(file: Path) -> dict[str, Any]:
    """A JSON object whose lists are sorted: peft writes sets."""
    content = json.loads(file.read_text())
    return {key: sorted(value, key=str) if isinstance(value, list) else value for key, value in content.items()}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two states."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("name", each([*QUICK, *FURTHER]))
def test_two_processes_train_as_one(
    name: str, folder_of: Folders, alone: Callable[[str], Any], script: ModuleType
) -> None:
    """With clipping and accumulation, batches of different sizes, and prompts and actions of different lengths."""
    first, second = reports(folder_of(name), name)
    assert first["world_size"] == second["world_size"] == 2 and first["backend"] == "gloo"
    assert first["part"] + second["part"] == pytest.approx(1.0) and 0.45 < first["part"] < 0.55
    assert first["steps"] == alone(name).trainer.global_step >= 2
    assert distance(first["weights"], second["weights"]) == 0.0
    torch.testing.assert_close(first["weights"], script.weights(alone(name)), **CLOSE)
    norm = float(alone(name).trainer.callback_metrics["train/grad_norm"])
    assert first["norm"] == pytest.approx(norm, rel=1e-4) and norm > script.CLIP, "clipping took effect"
    half = script.train(name, script.batches_of(name)[::2], devices=1)
    assert distance(first["weights"], script.weights(half)) > 1e-4, "the second process contributes"


@pytest.mark.parametrize("name", each([*QUICK, *FURTHER]))
def test_passes_of_different_number_change_nothing(name: str, folder_of: Folders, script: ModuleType) -> None:
    """The processes agree on how many they take; a process whose batch needs fewer waits for nobody in vain."""
    first, second = reports(folder_of(name), f"{name}{script.IN_PASSES}")
    assert distance(first["weights"], second["weights"]) == 0.0
    torch.testing.assert_close(first["weights"], reports(folder_of(name), name)[0]["weights"], **CLOSE)


@pytest.mark.slow
def test_a_process_without_a_minibatch_takes_part(folder_of: Folders) -> None:
    """One of two problems, cut into two parts: where a process has none left, the other's step is that under DDP."""
    first, second = reports(folder_of("short"), "short")
    assert first["idle"] + second["idle"] > 0
    assert distance(first["weights"], second["weights"]) == 0.0
    whole = torch.load(folder_of("short") / "short0.ddp.pt", weights_only=True)
    torch.testing.assert_close(first["weights"], whole, **CLOSE)


@pytest.mark.parametrize("strategy", ["fsdp2", "auto"])
@pytest.mark.parametrize("name", each(RESUMED))
def test_one_process_goes_on_from_two(name: str, strategy: str, folder_of: Folders, script: ModuleType) -> None:
    """Weights, moments and counters of a folder that two processes wrote, whether this one cuts its weights or not."""
    joined = script.joined(script.batches_of(name))
    start = folder_of(name) / f"{name}.two"
    assert start.is_dir() and len(list(start.glob("*.distcp"))) == 2, "each process wrote its part"
    plugins = [WholeCheckpointIO()]
    on = script.train(name, joined, devices=1, max_epochs=2, strategy=strategy, ckpt_path=start, plugins=plugins)
    whole = script.train(name, joined, devices=1, max_epochs=2)
    assert on.trainer.global_step == whole.trainer.global_step
    torch.testing.assert_close(script.weights(on), script.weights(whole), **CLOSE)


@pytest.mark.parametrize("name", each(RESUMED))
def test_two_processes_go_on_from_one(name: str, folder_of: Folders, script: ModuleType) -> None:
    """From the file that one process wrote without sharding."""
    assert (folder_of(name) / f"{name}.one").is_file()
    first, second = (torch.load(folder_of(name) / f"{name}{rank}.resumed.pt", weights_only=True) for rank in range(2))
    whole = script.train(name, script.joined(script.batches_of(name)), devices=1, max_epochs=2)
    assert first["steps"] == whole.trainer.global_step
    assert distance(first["weights"], second["weights"]) == 0.0
    torch.testing.assert_close(first["weights"], script.weights(whole), **CLOSE)


@pytest.mark.parametrize("name", each([*QUICK, *FURTHER]))
def test_the_exported_model_is_that_of_one_process(
    name: str, folder_of: Folders, alone: Callable[[str], Any], tmp_path: Path
) -> None:
    """The same files with the same weights: whole models, merged adapters, adapters, reward networks."""
    from safetensors.torch import load_file

    alone(name).trained_model.save_pretrained(tmp_path)
    exported = folder_of(name) / f"{name}.model"
    assert {p.name for p in exported.iterdir()} == {p.name for p in tmp_path.iterdir()}
    for file in tmp_path.glob("*.safetensors"):
        torch.testing.assert_close(load_file(exported / file.name), load_file(file), **CLOSE)
    for file in tmp_path.glob("*.json"):
        assert plain(exported / file.name) == plain(file)
