from __future__ import annotations

import random
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from lightning_gfn.tracking.rng import RngState, collect_rng_state, restore_rng_state


def draw() -> list[float]:
    numpy = [float(np.random.rand()), float(np.random.randn())]
    return [random.random(), random.gauss(0, 1), *numpy, float(torch.rand(()))]


def test_state_round_trip_through_a_safe_file(tmp_path: Path) -> None:
    random.gauss(0, 1)
    np.random.randn()
    torch.save(collect_rng_state(), tmp_path / "state.pt")
    expected = [draw() for _ in range(3)]
    restore_rng_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draw() for _ in range(3)] == expected
    assert [draw() for _ in range(3)] != expected


def trained(module: L.LightningModule, folder: Path, **kwargs: object) -> torch.Tensor:
    torch.manual_seed(0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[RngState()],
        **kwargs,
    )
    trainer.fit(module)
    return module.layer.weight.detach().clone()


def test_validation_leaves_no_trace_in_training(
    regression: L.LightningModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module draws in validation; with the callback the weights are those of a run without validation."""
    start = {name: value.clone() for name, value in regression.state_dict().items()}
    with_validation = trained(regression, tmp_path, val_check_interval=1)
    regression.load_state_dict(start)
    without = trained(regression, tmp_path, limit_val_batches=0)
    assert torch.equal(with_validation, without)
    monkeypatch.setattr(RngState, "on_train_batch_start", lambda *args: None)
    regression.load_state_dict(start)
    mixed = trained(regression, tmp_path, val_check_interval=1)
    assert not torch.equal(mixed, without), "the test must be able to fail"
