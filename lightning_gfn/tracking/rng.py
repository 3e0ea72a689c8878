"""The global random number generators, part of the checkpoint."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def collect_rng_state(device: torch.device | None = None) -> dict[str, Any]:
    """States of Python's, numpy's and torch's global generators (and of the GPU's), as tensors and primitives."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Set the global generators to a collected state."""
    python, arrays = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    keys = arrays["keys"].numpy().astype(np.uint32)
    np.random.set_state((arrays["kind"], keys, arrays["position"], arrays["has_gauss"], arrays["cached"]))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and device is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


class RngState(Callback):
    """Saves the global generators of every rank and restores them by rank.

    The state after one training batch is the state before the next one, whatever happens between them: data loaders
    (which draw seeds when an epoch begins), validation and restarts leave no trace in training.
    """

    def __init__(self) -> None:
        self.current: dict[str, Any] | None = None
        self.loaded: list[dict[str, Any]] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose this rank's state from the checkpoint."""
        if self.loaded is None:
            self.current = None
            return
        if trainer.global_rank < len(self.loaded):
            self.current = self.loaded[trainer.global_rank]
        else:
            warnings.warn(
                f"the checkpoint holds random states of {len(self.loaded)} processes: process {trainer.global_rank} "
                "starts from its seed",
                stacklevel=2,
            )
        self.loaded = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.current is not None:
            restore_rng_state(self.current, pl_module.device)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation of training begins as after the training batch before it, also where a resumed run begins so."""
        if self.current is not None and trainer.state.fn == "fit" and not trainer.sanity_checking:
            restore_rng_state(self.current, pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.current = collect_rng_state(pl_module.device)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gather the states of all ranks; every rank takes part in saving."""
        mine = self.current if self.current is not None else collect_rng_state(pl_module.device)
        states: list[Any] = [mine]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, mine)
        checkpoint["rng_states"] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint.get("rng_states")
