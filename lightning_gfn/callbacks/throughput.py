"""Count what training spends, log it, and stop at a limit, so that methods can be compared on equal budgets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from lightning_gfn.callbacks.run_files import run_folder, write_json

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

COUNTS = ("generated_tokens", "reward_calls", "gradient_tokens")


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory since the process began: allocated by torch on a GPU, resident on a CPU (MiB)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class Budget(Callback):
    """Adds up tokens, reward calls, optimiser steps and seconds over ranks and resumes; logs them; stops at limits.

    ``training_step`` returns a dict; its entries ``generated_tokens``, ``reward_calls`` and ``gradient_tokens``
    (numbers of this rank and this batch, 0 where absent) are summed. Seconds are those of training: validation inside
    ``fit`` does not count. Logged as ``budget/<name>``; written to ``<run folder>/budget.json`` when training ends.

    Args:
        max_generated_tokens: stop once so many tokens were sampled, all ranks together.
        max_reward_calls: stop once so many completions were given a reward.
        max_gradient_tokens: stop once so many tokens (prompts and actions) went through the pass with gradient.
        max_optimizer_steps: stop after so many optimiser steps.
        max_wall_seconds: stop after so many seconds of training (the longest rank counts).
    """

    def __init__(
        self,
        *,
        max_generated_tokens: int | None = None,
        max_reward_calls: int | None = None,
        max_gradient_tokens: int | None = None,
        max_optimizer_steps: int | None = None,
        max_wall_seconds: float | None = None,
    ) -> None:
        self.limits: dict[str, float | None] = {
            "generated_tokens": max_generated_tokens,
            "reward_calls": max_reward_calls,
            "gradient_tokens": max_gradient_tokens,
            "optimizer_steps": max_optimizer_steps,
            "wall_seconds": max_wall_seconds,
        }
        for name, limit in self.limits.items():
            if limit is not None and limit <= 0:
                raise ValueError(f"max_{name} must be positive, got {limit}; leave it out for no limit")
        self.spent: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.optimizer_steps = 0
        self.wall_seconds = 0.0
        self._since: float | None = None

    def totals(self) -> dict[str, float]:
        """Everything spent up to the last finished batch."""
        return {**self.spent, "optimizer_steps": self.optimizer_steps, "wall_seconds": self.wall_seconds}

    def state_dict(self) -> dict[str, Any]:
        return {name: float(value) if name == "wall_seconds" else int(value) for name, value in self.totals().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = {name: int(state_dict[name]) for name in COUNTS}
        self.optimizer_steps = int(state_dict["optimizer_steps"])
        self.wall_seconds = float(state_dict["wall_seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        if self._since is not None:
            self.wall_seconds += time.monotonic() - self._since
            self._since = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        elapsed = now - self._since if self._since is not None else 0.0
        self._since = now
        self._add(trainer, outputs if isinstance(outputs, Mapping) else {}, elapsed, pl_module.device)
        self.optimizer_steps = trainer.global_step
        for name, value in self.totals().items():
            pl_module.log(f"budget/{name}", float(value), rank_zero_only=True)
        pl_module.log("budget/peak_memory_mib", peak_memory_mib(pl_module.device), rank_zero_only=True)
        reached = [name for name, limit in self.limits.items() if limit is not None and self.totals()[name] >= limit]
        if reached:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = None
        if trainer.is_global_zero:
            totals = {**self.state_dict(), "peak_memory_mib": peak_memory_mib(pl_module.device)}
            write_json(run_folder(trainer) / "budget.json", totals)

    def _add(self, trainer: Trainer, outputs: Mapping[str, Any], elapsed: float, device: torch.device) -> None:
        counts = torch.tensor([int(outputs.get(name, 0)) for name in COUNTS], dtype=torch.int64, device=device)
        seconds = torch.tensor(self.wall_seconds + elapsed, dtype=torch.float32, device=device)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(seconds, op=torch.distributed.ReduceOp.MAX)
            self.wall_seconds = float(seconds)
        else:
            self.wall_seconds += elapsed
        for name, count in zip(COUNTS, counts.tolist(), strict=True):
            self.spent[name] += count
