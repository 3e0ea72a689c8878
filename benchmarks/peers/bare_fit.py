"""A fit as users of Lightning and MLflow write it by hand: a small Llama, one loss, metrics to a local database."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import MLFlowLogger
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.subjects.first_step import FirstStep


class Fit(L.LightningModule):
    """Next-token loss of a Llama of the size that the quickstart trains."""

    def __init__(self) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=384, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128,
        )  # fmt: skip
        self.model = LlamaForCausalLM(config)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> Any:
        """The loss of one batch."""
        loss = self.model(input_ids=batch, labels=batch).loss
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(folder: str) -> None:
    """Train a few steps with everything that such a run has: a logger and a checkpoint."""
    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(torch.randint(0, 384, (64, 64)), batch_size=16)
    logger = MLFlowLogger(experiment_name="bare", tracking_uri=f"sqlite:///{folder}/mlflow.db")
    trainer = L.Trainer(
        accelerator="cpu", max_steps=2, logger=logger, callbacks=[FirstStep()], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Fit(), data)


if __name__ == "__main__":
    main(sys.argv[1])
