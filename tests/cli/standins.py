"""A tiny module and data whose every random draw comes from the global generators, for tests of the command line."""

from __future__ import annotations

import os
import random
import signal
from typing import Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from datamodules.common.base import ProblemDataModule
from lightning_gfn.types import Problem


class NoisyData(ProblemDataModule):
    """Numbered problems.

    Args:
        size: problems of each split.
        batch_size: problems a batch.
    """

    def __init__(self, *, size: int = 12, batch_size: int = 2) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=4)
        self.size = size

    def load_split(self, split: Literal["train", "val", "test"]) -> list[Problem]:
        return [Problem(id=f"{split}-{i}", prompt=str(i)) for i in range(self.size)]


class BrokenData(NoisyData):
    """Cannot be built."""

    def __init__(self) -> None:
        super().__init__(size=int("many"))


class NoisyModule(L.LightningModule):
    """A regression with noise from Python, numpy and torch.

    Args:
        lr: learning rate.
        method: name of the method.
        kill_at_step: end the process, without a chance to clean up, when this batch begins.
        kill_in_validation: the same when validation begins after so many steps.
        marker: file that is written when the model is built.
    """

    def __init__(
        self,
        *,
        lr: float = 0.1,
        method: str = "noisy",
        kill_at_step: int | None = None,
        kill_in_validation: int | None = None,
        marker: str | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.method = method
        self.kill_at_step = kill_at_step
        self.kill_in_validation = kill_in_validation
        self.marker = marker

    def configure_model(self) -> None:
        if not hasattr(self, "layer"):
            if self.marker is not None:
                with open(self.marker, "a") as file:
                    file.write("built\n")
            self.layer = nn.Linear(1, 1)

    def transfer_batch_to_device(
        self, batch: list[Problem], device: torch.device, dataloader_idx: int
    ) -> list[Problem]:
        return batch

    def _loss(self, batch: list[Problem], noise: float) -> Tensor:
        x = torch.tensor([[float(problem.prompt)] for problem in batch]) / 10
        return (self.layer(x) - 2 * x - noise).square().mean()

    def training_step(self, batch: list[Problem], batch_idx: int) -> Tensor:
        if self.global_step == self.kill_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = float(torch.rand(())) + random.random() + float(np.random.rand())
        loss = self._loss(batch, noise)
        self.log_dict({"train/loss": loss.detach(), "train/noise": noise})
        return loss

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        if self.global_step == self.kill_in_validation and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        self.log("val/loss", self._loss(batch, float(torch.rand(()))).detach(), batch_size=len(batch), sync_dist=True)

    def test_step(self, batch: list[Problem], batch_idx: int) -> None:
        self.log("test/weight", self.layer.weight.item(), batch_size=len(batch), sync_dist=True)

    def predict_step(self, batch: list[Problem], batch_idx: int) -> list[float]:
        return [float(problem.prompt) for problem in batch]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)
