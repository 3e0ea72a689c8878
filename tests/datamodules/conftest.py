"""Tiny data modules and a tiny module for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer

from datamodules.common.base import ProblemDataModule, Split
from lightning_gfn.types import Problem

ROOT = Path(__file__).parents[2]


class CountingData(ProblemDataModule):
    """Problems that are numbered and hold nothing else."""

    def __init__(self, num_train: int = 10, num_eval: int = 5, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_eval, "test": num_eval}

    def load_split(self, split: Split) -> list[Problem]:
        """So many numbered problems."""
        return [
            Problem(id=f"{split}/{i}", prompt=self.prompt(str(i)), solutions=(f" {i}",))
            for i in range(self.sizes[split])
        ]


class RecordingModule(LightningModule):
    """Remembers the problem ids that it was trained and evaluated on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[tuple[str, ...]] = []
        self.validated: list[str] = []

    def transfer_batch_to_device(
        self, batch: list[Problem], device: torch.device, dataloader_idx: int
    ) -> list[Problem]:
        """Problems stay where they are."""
        return batch

    def training_step(self, batch: list[Problem], batch_idx: int) -> torch.Tensor:
        """A loss that moves the weight."""
        self.trained.append(tuple(problem.id for problem in batch))
        return self.weight * 1.0

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Remember the ids."""
        self.validated.extend(problem.id for problem in batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet_trainer(folder: Path, **settings: object) -> Trainer:
    """A CPU trainer without output of its own."""
    defaults: dict[str, object] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
        "max_epochs": -1,
    }
    return Trainer(**(defaults | settings))  # type: ignore[arg-type]


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared data here")
    return folder


@pytest.fixture
def counting_data() -> type[CountingData]:
    """The class of numbered problems."""
    return CountingData


@pytest.fixture
def recording_module() -> type[RecordingModule]:
    """The class of the tiny module."""
    return RecordingModule


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A factory of quiet trainers that write to the test's folder."""
    return lambda **settings: quiet_trainer(tmp_path, **settings)


@pytest.fixture
def fixtures() -> Path:
    """The folder of made-up rows."""
    return ROOT / "tests" / "fixtures"
