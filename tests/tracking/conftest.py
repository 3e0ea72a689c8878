from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Regression(L.LightningModule):
    """One weight, one figure a step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = (self.layer(batch) + torch.rand(())).square().mean()
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/noise", torch.rand(()))

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.ones(6, 1), batch_size=2, shuffle=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.ones(2, 1), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def regression() -> Regression:
    torch.manual_seed(0)
    return Regression()
