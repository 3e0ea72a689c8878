"""Steps whose loss or gradient is not finite: left out, counted, and an end to it after too many in a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_gfn.finite import NotFiniteError, largest_weight, not_finite

HUGE_WEIGHT = 1e4


@dataclass
class SkippedSteps:
    """How many optimiser steps were left out because loss or gradient was not finite.

    Args:
        limit: steps in a row after which training ends.
        total: in this run.
        in_a_row: up to now; 0 after a step that was taken.
        first: optimiser step at which the present row began.
    """

    limit: int
    total: int = 0
    in_a_row: int = 0
    first: int = 0

    def count(self, step: int, *, skipped: bool) -> None:
        """Take in one optimiser step."""
        if not skipped:
            self.in_a_row = 0
            return
        if not self.in_a_row:
            self.first = step
        self.in_a_row += 1
        self.total += 1

    def state_dict(self) -> dict[str, int]:
        """Counts for a checkpoint."""
        return {"total": self.total, "in_a_row": self.in_a_row, "first": self.first}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore ``state_dict``; checkpoints of earlier versions have none."""
        self.total, self.in_a_row, self.first = (int(state.get(name, 0)) for name in ("total", "in_a_row", "first"))

    def check(self, module: LightningModule) -> None:
        """End training after too many steps in a row; all ranks count alike, so that all end.

        Raises:
            NotFiniteError: says since when, the likely cause, the remedy and where to go on.
        """
        if self.in_a_row < self.limit:
            return
        folder = Path(module.trainer.default_root_dir)
        raise NotFiniteError(
            f"training ended at step {module.global_step}: since step {self.first} the loss or the gradient of "
            f"{self.in_a_row} steps in a row was not finite (NaN or infinite), and none of them changed a weight "
            f"(model.optimizer.max_skipped_steps={self.limit}).\n"
            f"Likely cause: {likely_cause(module)}.\n"
            f"{where_to_look(folder)}"
        )


def scaler_adapts(precision: Any) -> bool:
    """True while a gradient scaler of 16-bit training may still look for its scale: its own skips are no faults."""
    scaler = getattr(precision, "scaler", None)
    return scaler is not None and float(scaler.get_scale()) > 1.0


def likely_cause(module: LightningModule) -> str:
    """What most often explains losses that are not finite, from weights, learning rate and rewards, with its remedy."""
    broken = not_finite(module.named_parameters())
    optimizers: Any = module.trainer.optimizers
    rates = [float(group.get("initial_lr", group["lr"])) for one in optimizers for group in one.param_groups]
    lower = f"lower model.optimizer.lr (it is {max(rates):g})"
    if broken:
        return f"{len(broken)} weights are not finite themselves, {broken[0]!r} among them; {lower}"
    largest = largest_weight(module)
    if largest > HUGE_WEIGHT:
        return f"the weights have grown up to {largest:.3g}; {lower}"
    rewards: Tensor | None = getattr(
        getattr(getattr(module, "latest_rollouts", None), "log_reward", None), "terminal_B", None
    )
    if rewards is not None and rewards.numel() and float(rewards.abs().max()) > 1e9:
        return (
            f"log rewards as large as {float(rewards[rewards.abs().argmax()]):.3g}, whose squares are too large for "
            "float32; give a smaller penalty such as -50, or raise the reward's temperature"
        )
    if str(module.trainer.precision).startswith("16"):
        return f"float16 overflows; set trainer.precision to bf16-mixed or 32-true, or {lower}"
    return f"the learning rate; {lower} or set trainer.gradient_clip_val"


def where_to_look(folder: Path) -> str:
    """The dumps and the checkpoint to go on from, as far as they exist."""
    dumps, last = folder / "skipped_steps", folder / "checkpoints" / "last.ckpt"
    parts = [f"The batches are in {dumps}"] if dumps.is_dir() else []
    parts.append(
        f"the last good checkpoint is {last}: go on from it with --ckpt_path last" if last.exists() else
        "no checkpoint had been saved: start again with --if_exists fresh"
    )  # fmt: skip
    text = "; ".join(parts)
    return text[0].upper() + text[1:]


def finite_flag(value: Tensor) -> Tensor:
    """1.0 where a scalar is not finite, else 0.0, without waiting for the device."""
    return (~torch.isfinite(value.detach())).to(torch.float32)
