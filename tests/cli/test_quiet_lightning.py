"""Warnings of Lightning about what is done on purpose do not reach the user; others do."""

from __future__ import annotations

import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_gfn.lightning_cli.main import quiet_lightning


class WithReference(pl.LightningModule):
    """Trains one layer beside a frozen one in evaluation mode, as the reference policy is."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = torch.nn.Linear(2, 1)
        self.reference = torch.nn.Sequential(torch.nn.Linear(2, 1)).requires_grad_(False).eval()

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        warnings.warn("something else", stacklevel=1)
        return (self.policy(batch[0]) - self.reference(batch[0])).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.policy.parameters(), lr=0.1)


def test_a_frozen_reference_is_no_reason_to_warn(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet_lightning()
        trainer.fit(WithReference(), DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2))
    messages = [str(warning.message) for warning in caught]
    assert not [message for message in messages if "eval mode" in message]
    assert "something else" in messages
