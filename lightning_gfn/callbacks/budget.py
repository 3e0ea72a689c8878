"""Count what training spends, log it, and stop at a limit, so that methods can be compared on equal budgets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.costs import (
    COUNTS,
    LABELS,
    PEAK,
    PROCESSOR,
    add_up,
    label_keys,
    peak_memory_mib,
    processor_seconds,
    read_spent,
    reset_peak_memory,
)
from lightning_gfn.callbacks.common.run_files import run_folder, send_artifact, write_json
from lightning_gfn.rollouts.distributed import gather_all

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class Budget(Callback):
    """Adds up tokens, reward calls, optimiser steps and seconds over ranks, resumes and stages; stops at limits.

    ``training_step`` returns a dict; its entries ``generated_tokens``, ``reward_calls``, ``gradient_tokens`` and
    ``environment_steps`` (numbers of this rank and this batch, 0 where absent) are summed. Seconds are those of
    training: validation inside ``fit`` does not count. ``processor_seconds`` are those of all threads of all ranks.
    ``labels`` are the different problems with a label (answer, solution, preference, …) that training has read so far.
    Memory is the highest peak of any rank. Logged as ``budget/<name>`` with earlier stages.

    ``<run folder>/budget.json``, written when training ends, holds the totals at its top level (this run and the
    earlier stages; of peak memory and labels the highest of them), this run alone under ``own`` and each earlier stage
    under ``prior``. Limits apply to the totals, so that methods with and without earlier stages stop at the same cost.
    A run that has reached a limit takes no further step when it is resumed.

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
        self.processor_seconds = 0.0
        self.peak_memory = 0.0
        self.labels: set[int] = set()
        self._earlier: dict[str, dict[str, float]] = {}
        self._since: tuple[float, float] | None = None

    def own(self) -> dict[str, float]:
        """What this run spent up to the last finished batch."""
        counted = {"optimizer_steps": self.optimizer_steps, "wall_seconds": self.wall_seconds}
        more = {PROCESSOR: self.processor_seconds, LABELS: len(self.labels), PEAK: self.peak_memory}
        return {**self.spent, **counted, **more}

    def totals(self) -> dict[str, float]:
        """What this run and its earlier stages spent."""
        return add_up([self.own(), *self._earlier.values()])

    def reached(self) -> list[str]:
        """The limits that the totals have reached."""
        totals = self.totals()
        return [name for name, limit in self.limits.items() if limit is not None and totals[name] >= limit]

    def state_dict(self) -> dict[str, Any]:
        timed = ("wall_seconds", PROCESSOR, PEAK)
        own = {name: float(value) if name in timed else int(value) for name, value in self.own().items()}
        return {**own, LABELS: sorted(self.labels)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = {name: int(state_dict.get(name, 0)) for name in COUNTS}
        self.optimizer_steps = int(state_dict["optimizer_steps"])
        self.wall_seconds = float(state_dict["wall_seconds"])
        self.processor_seconds = float(state_dict.get(PROCESSOR, 0.0))
        self.peak_memory = float(state_dict.get(PEAK, 0.0))
        self.labels = set(state_dict.get(LABELS, ()))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the earlier stages.

        Raises:
            FileNotFoundError: a file of ``prior`` does not exist.
            ValueError: it is malformed.
        """
        if stage == "fit":
            self._earlier = {path: read_spent(Path(path)) for path in self.prior}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.monotonic(), processor_seconds()
        reset_peak_memory(pl_module.device)
        if self.reached():
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        if self._since is not None:
            wall, processor = self._lap()
            self.wall_seconds += wall
            self.processor_seconds += processor
            self._since = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._since = time.monotonic(), processor_seconds()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        elapsed, counted = self._lap(), outputs if isinstance(outputs, Mapping) else {}
        self._add(trainer, counted, elapsed, label_keys(batch), pl_module.device)
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

    def _lap(self) -> tuple[float, float]:
        """Seconds on the wall and of this process since the last call."""
        now = time.monotonic(), processor_seconds()
        before = self._since if self._since is not None else now
        self._since = now
        return now[0] - before[0], now[1] - before[1]

    def _add(
        self,
        trainer: Trainer,
        outputs: Mapping[str, Any],
        elapsed: tuple[float, float],
        labels: set[int],
        device: torch.device,
    ) -> None:
        counts = [int(outputs.get(name, 0)) for name in COUNTS]
        wall, processor = elapsed
        self.wall_seconds += wall
        self.peak_memory = max(self.peak_memory, peak_memory_mib(device))
        new = labels - self.labels
        if trainer.world_size > 1:
            summed = torch.tensor([*counts, len(new)], dtype=torch.int64, device=device)
            shared = torch.tensor([processor], dtype=torch.float64, device=device)
            highest = torch.tensor([self.wall_seconds, self.peak_memory], dtype=torch.float64, device=device)
            for values in (summed, shared):
                torch.distributed.all_reduce(values)
            torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
            *counts, num_new = summed.tolist()
            processor = float(shared)
            self.wall_seconds, self.peak_memory = highest.tolist()
            new = set(gather_all(list(new))) if num_new else new
        self.processor_seconds += processor
        self.labels |= new
        for name, count in zip(COUNTS, counts, strict=True):
            self.spent[name] += count
