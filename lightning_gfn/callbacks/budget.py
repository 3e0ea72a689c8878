"""Count what training spends, log it, and stop at a limit, so that methods can be compared on equal budgets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.costs import COUNTS, PEAK, add_up, peak_memory_mib, read_spent, reset_peak_memory
from lightning_gfn.callbacks.common.run_files import run_folder, send_artifact, write_json

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class Budget(Callback):
    """Adds up tokens, reward calls, optimiser steps and seconds over ranks, resumes and stages; stops at limits.

    ``training_step`` returns a dict; its entries ``generated_tokens``, ``reward_calls``, ``gradient_tokens`` and
    ``environment_steps`` (numbers of this rank and this batch, 0 where absent) are summed. Seconds are those of
    training: validation inside ``fit`` does not count. Memory is the highest peak of any rank. Logged as
    ``budget/<name>`` with earlier stages.

    ``<run folder>/budget.json``, written when training ends, holds the totals at its top level (this run and the
    earlier stages; peak memory is the highest of them), this run alone under ``own`` and each earlier stage under
    ``prior``. Limits apply to the totals, so that methods with and without earlier stages stop at the same cost. A run
    that has reached a limit takes no further step when it is resumed.

    Args:
        max_generated_tokens: stop once so many tokens were sampled, all ranks together.
        max_reward_calls: stop once so many completions were given a reward.
        max_gradient_tokens: stop once so many tokens (prompts and actions) went through the pass with gradient.
        max_environment_steps: stop once a proof environment was asked about so many tactics.
        max_optimizer_steps: stop after so many optimiser steps.
        max_wall_seconds: stop after so many seconds of training (the longest rank counts).
        prior: ``budget.json`` files of earlier stages whose cost belongs to this method (sampling, a reward model).
            A file's totals include its own prior stages: name the last stage of a chain only.
    """

    def __init__(
        self,
        *,
        max_generated_tokens: int | None = None,
        max_reward_calls: int | None = None,
        max_gradient_tokens: int | None = None,
        max_environment_steps: int | None = None,
        max_optimizer_steps: int | None = None,
        max_wall_seconds: float | None = None,
        prior: list[str] | None = None,
    ) -> None:
        self.limits: dict[str, float | None] = {
            "generated_tokens": max_generated_tokens,
            "reward_calls": max_reward_calls,
            "gradient_tokens": max_gradient_tokens,
            "environment_steps": max_environment_steps,
            "optimizer_steps": max_optimizer_steps,
            "wall_seconds": max_wall_seconds,
        }
        for name, limit in self.limits.items():
            if limit is not None and limit <= 0:
                raise ValueError(f"max_{name} must be positive, got {limit}; leave it out for no limit")
        self.prior = list(prior) if prior is not None else []
        if len(set(self.prior)) < len(self.prior):
            raise ValueError(f"prior names a budget file twice: {', '.join(self.prior)}")
        self.spent: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.optimizer_steps = 0
        self.wall_seconds = 0.0
        self.peak_memory = 0.0
        self._earlier: dict[str, dict[str, float]] = {}
        self._since: float | None = None

    def own(self) -> dict[str, float]:
        """What this run spent up to the last finished batch."""
        counted = {"optimizer_steps": self.optimizer_steps, "wall_seconds": self.wall_seconds}
        return {**self.spent, **counted, PEAK: self.peak_memory}

    def totals(self) -> dict[str, float]:
        """What this run and its earlier stages spent."""
        return add_up([self.own(), *self._earlier.values()])

    def reached(self) -> list[str]:
        """The limits that the totals have reached."""
        totals = self.totals()
        return [name for name, limit in self.limits.items() if limit is not None and totals[name] >= limit]

    def state_dict(self) -> dict[str, Any]:
        return {
            name: float(value) if name in ("wall_seconds", PEAK) else int(value) for name, value in self.own().items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = {name: int(state_dict.get(name, 0)) for name in COUNTS}
        self.optimizer_steps = int(state_dict["optimizer_steps"])
        self.wall_seconds = float(state_dict["wall_seconds"])
        self.peak_memory = float(state_dict.get(PEAK, 0.0))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the earlier stages.

        Raises:
            FileNotFoundError: a file of ``prior`` does not exist.
            ValueError: it is malformed.
        """
        if stage == "fit":
            self._earlier = {path: read_spent(Path(path)) for path in self.prior}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.monotonic()
        reset_peak_memory(pl_module.device)
        if self.reached():
            trainer.should_stop = True

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
        values = {f"budget/{name}": float(value) for name, value in self.totals().items()}
        pl_module.log_dict(values, rank_zero_only=True)
        if self.reached():
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``budget.json``: also where a resumed run had nothing left to do."""
        self._since = None
        if trainer.is_global_zero:
            content = {**self.totals(), "own": self.own(), "prior": self._earlier}
            send_artifact(trainer, write_json(run_folder(trainer) / "budget.json", content))

    def _add(self, trainer: Trainer, outputs: Mapping[str, Any], elapsed: float, device: torch.device) -> None:
        counts = [int(outputs.get(name, 0)) for name in COUNTS]
        self.wall_seconds += elapsed
        self.peak_memory = max(self.peak_memory, peak_memory_mib(device))
        if trainer.world_size > 1:
            summed = torch.tensor(counts, dtype=torch.int64, device=device)
            highest = torch.tensor([self.wall_seconds, self.peak_memory], dtype=torch.float64, device=device)
            torch.distributed.all_reduce(summed)
            torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
            counts = summed.tolist()
            self.wall_seconds, self.peak_memory = highest.tolist()
        for name, count in zip(COUNTS, counts, strict=True):
            self.spent[name] += count
