"""Settings that every module shares: the optimiser and how evaluation samples are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with warm-up and decay.

    Args:
        lr: peak learning rate of the policy.
        head_lr: peak learning rate of log Z and flow heads; they start far from their target and need a larger one.
        weight_decay: decoupled weight decay, on matrices only.
        betas: decay rates of the two moment estimates.
        eps: added to the root of the second moment.
        warmup_steps: optimiser steps of linear warm-up from zero.
        schedule: shape of the decay after warm-up, over all steps of the run.
        final_lr_ratio: learning rate at the end of the decay, as a share of the peak.
    """

    lr: float = 1e-4
    head_lr: float = 1e-2
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_lr_ratio: float = 0.0

    def lr_factor(self, total_steps: float) -> Callable[[int], float]:
        """Multiplier of the peak learning rate at each optimiser step of a run of ``total_steps``."""
        if self.schedule != "constant" and not math.isfinite(total_steps):
            raise ValueError(
                f"optimizer.schedule={self.schedule!r} needs a known number of steps: "
                "set trainer.max_steps or trainer.max_epochs"
            )

        def factor(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / self.warmup_steps
            if self.schedule == "constant":
                return 1.0
            progress = min(1.0, (step - self.warmup_steps) / max(1.0, total_steps - self.warmup_steps))
            remaining = 1.0 - progress if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
            return self.final_lr_ratio + (1.0 - self.final_lr_ratio) * remaining

        return factor

    def build(self, module: nn.Module) -> AdamW:
        """AdamW over every trainable parameter of a module, each in exactly one group; those under ``head`` apart."""
        from torch.optim import AdamW

        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        trainable = [p for name, p in named if not name.startswith("head.")]
        head = [p for name, p in named if name.startswith("head.")]
        groups = [
            {"params": [p for p in trainable if p.ndim >= 2], "lr": self.lr, "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim < 2], "lr": self.lr, "weight_decay": 0.0},
            {"params": head, "lr": self.head_lr, "weight_decay": 0.0},
        ]
        return AdamW([g for g in groups if g["params"]], betas=self.betas, eps=self.eps)


@dataclass(frozen=True)
class EvaluationSettings:
    """How completions are drawn in validation, test and prediction; the same for every method that is compared.

    Args:
        num_samples: completions per problem.
        temperatures: sampling temperatures; each problem is sampled at each of them.
        top_k: keep only the k most likely actions; None keeps all.
        top_p: keep the smallest set of actions with at least this probability; None keeps all.
        seed: key of the sampling uniforms; equal seeds give equal uniforms to every method.
        max_rows: completions decoded at once (bounds memory).
    """

    num_samples: int = 8
    temperatures: tuple[float, ...] = (1.0,)
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    max_rows: int = 512

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"evaluation.num_samples must be at least 1, got {self.num_samples}")
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"evaluation.temperatures must be positive numbers, got {self.temperatures}")
