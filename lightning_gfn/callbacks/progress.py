"""Progress for people who read a log file instead of a terminal."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import TQDMProgressBar

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def format_seconds(seconds: float) -> str:
    """A duration as ``45s``, ``3m05s`` or ``2h07m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def format_metrics(values: dict[str, Any]) -> str:
    """Metrics as ``name value`` pairs with four significant digits."""
    return "  ".join(f"{name} {float(value):.4g}" for name, value in sorted(values.items()))


class Progress(TQDMProgressBar):
    """Lightning's bar on a terminal; elsewhere one plain line every few seconds: stage, step, metrics, time left.

    Args:
        every_n_seconds: time between two lines of the same stage; the first and the last batch always get one.
        metrics: logged metrics to print; by default those logged with ``prog_bar=True`` and ``train/loss``.
        refresh_rate: batches between two updates of the bar on a terminal.
        label: put in front of each line, to tell runs apart in one log.
    """

    def __init__(
        self,
        *,
        every_n_seconds: float = 10.0,
        metrics: list[str] | None = None,
        refresh_rate: int = 1,
        label: str | None = None,
    ) -> None:
        self.plain = not sys.stdout.isatty()
        super().__init__(refresh_rate=0 if self.plain else refresh_rate)
        self.every_n_seconds = every_n_seconds
        self.metrics = metrics
        self.label = label
        self._silenced = False
        self._started = time.monotonic()
        self._printed = -math.inf
        self._first_step = 0

    def disable(self) -> None:
        """Print nothing; Lightning calls this on every rank but the first."""
        super().disable()
        self._silenced = True

    def enable(self) -> None:
        """Print again."""
        super().enable()
        self._silenced = False

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._begin(self.trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        total = self._total_steps(trainer)
        step = trainer.global_step
        self._line("train step", step, total, self._logged(trainer), first=self._first_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if trainer.state.fn != "fit":
            self._begin(0)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().on_validation_batch_end(trainer, *args, **kwargs)
        if not trainer.sanity_checking:
            in_fit = trainer.state.fn == "fit"
            self._batch_line("validate", args[3], self.total_val_batches_current_dataloader, timed=not in_fit)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        self._begin(0)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().on_test_batch_end(trainer, *args, **kwargs)
        self._batch_line("test", args[3], self.total_test_batches_current_dataloader)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_start(trainer, pl_module)
        self._begin(0)

    def on_predict_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().on_predict_batch_end(trainer, *args, **kwargs)
        self._batch_line("predict", args[3], self.total_predict_batches_current_dataloader)

    def _begin(self, first_step: int) -> None:
        self._started = time.monotonic()
        self._printed = -math.inf
        self._first_step = first_step

    def _batch_line(self, stage: str, batch_idx: int, total: float, *, timed: bool = True) -> None:
        self._line(f"{stage} batch", batch_idx + 1, total, {}, first=0 if timed else None)

    def _line(self, what: str, done: int, total: float, values: dict[str, Any], *, first: int | None) -> None:
        now = time.monotonic()
        due = now - self._printed >= self.every_n_seconds or done == total
        if not self.plain or self._silenced or not due:
            return
        self._printed = now
        parts = [f"{what} {done}" + (f"/{int(total)}" if math.isfinite(total) else "")]
        if values:
            parts.append(format_metrics(values))
        if first is not None:
            elapsed = now - self._started
            parts.append(format_seconds(elapsed))
            if math.isfinite(total) and done > first:
                parts.append(f"{format_seconds(elapsed / (done - first) * (total - done))} left")
        prefix = f"[{self.label}] " if self.label is not None else ""
        print(prefix + "  ".join(parts), flush=True)

    def _logged(self, trainer: Trainer) -> dict[str, Any]:
        known = trainer.callback_metrics
        if self.metrics is not None:
            return {name: known[name] for name in self.metrics if name in known}
        shown: dict[str, Any] = dict(trainer.progress_bar_metrics)
        if "train/loss" in known:
            shown["train/loss"] = known["train/loss"]
        return shown

    @staticmethod
    def _total_steps(trainer: Trainer) -> float:
        if trainer.max_steps > 0:
            return trainer.max_steps
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            return math.inf
        return trainer.estimated_stepping_batches
