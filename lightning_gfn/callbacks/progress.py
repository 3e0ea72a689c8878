"""Progress on a terminal and in a log file: figures, time left, and now and then a sample."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import TQDMProgressBar

from lightning_gfn.callbacks.common.console import write_line
from lightning_gfn.callbacks.common.progress_values import TokenRate, shown_metrics
from lightning_gfn.callbacks.common.shown_samples import evaluation_sample, training_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from lightning.pytorch import LightningModule, Trainer

SECONDS_BETWEEN_READS = 1.0


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
    return "  ".join(f"{name} {float(value):.4g}" for name, value in values.items())


def shows_bars(stream: TextIO) -> bool:
    """Whether a stream is a terminal with a size: bars are not drawn on one of no rows, as containers may have."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).lines > 0
    except (OSError, ValueError):
        return True


class Progress(TQDMProgressBar):
    """A bar on a terminal; elsewhere one plain line every few seconds: stage, step, figures, time left.

    Args:
        every_n_seconds: time between two lines of the same stage; the first and the last batch always get one.
        metrics: logged metrics to show; by default loss and gradient norm, the mean log reward, the share of on-policy
            samples that are right and that were cut at the maximum length, tokens per second, and what is logged with
            ``prog_bar=True``.
        refresh_rate: batches between two updates of the bar on a terminal; its figures are read once a second at most.
        label: put in front of each line, to tell runs apart in one log.
        sample_every: optimiser steps between two samples that are printed, prompt, completion and reward; the first
            step, each validation and a test print one, too; 0 prints none.
    """

    BAR_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar:10}| {elapsed}<{remaining}{postfix}"

    def __init__(
        self,
        *,
        every_n_seconds: float = 10.0,
        metrics: list[str] | None = None,
        refresh_rate: int = 1,
        label: str | None = None,
        sample_every: int = 100,
    ) -> None:
        if sample_every < 0:
            raise ValueError(f"Progress: sample_every={sample_every} must be at least 0; 0 prints no samples")
        self.plain = not shows_bars(sys.stdout)
        super().__init__(refresh_rate=0 if self.plain else refresh_rate)
        self.every_n_seconds = every_n_seconds
        self.metrics = metrics
        self.label = label
        self._silenced = False
        self._started = time.monotonic()
        self._printed = -math.inf
        self._first_step = 0
        self.sample_every = sample_every
        self._sampled_at: int | None = None
        self._rate = TokenRate()
        self._figures: dict[str, float] = {}
        self._read = -math.inf
        self._loaded_step: int | None = None

    def disable(self) -> None:
        """Print nothing; Lightning calls this on every rank but the first."""
        super().disable()
        self._silenced = True

    def enable(self) -> None:
        """Print again."""
        super().enable()
        self._silenced = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the step of the weights, which the trainer's own counter does not show in a test."""
        self._loaded_step = None if trainer.state.fn == "fit" else int(checkpoint["global_step"])

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._begin(self.trainer.global_step)
        self._read = -math.inf
        total = self._total_steps(self.trainer)
        self.train_progress_bar.initial = self._first_step
        self.train_progress_bar.total = total if math.isfinite(total) else None
        self.train_progress_bar.set_description_str("train step")
        if self.plain and not self._silenced:
            of = f" of {int(total)}" if math.isfinite(total) else ""
            self._print(f"training begins at step {self._first_step}{of}; figures follow its first step")

    def on_train_epoch_start(self, *args: Any) -> None:
        """Nothing: the bar counts the optimiser steps of the run, not the batches of an epoch."""

    def on_train_batch_start(self, *args: Any) -> None:
        super().on_train_batch_start(*args)
        self._rate.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._rate.add(outputs)
        total, step = self._total_steps(trainer), trainer.global_step
        if self.is_enabled and ((batch_idx + 1) % self.refresh_rate == 0 or step == total):
            self._draw(trainer, pl_module)
        self._sample(step, lambda: training_sample(pl_module, step))
        if self._due(step, total):
            values = self._current(trainer)
            self._line("train step", step, total, values, first=self._first_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        if trainer.state.fn != "fit":
            self._begin(0)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().on_validation_batch_end(trainer, *args, **kwargs)
        if not trainer.sanity_checking:
            in_fit = trainer.state.fn == "fit"
            if in_fit and args[3] == 0 and self.sample_every and not self._silenced:
                self._show(evaluation_sample(args[1], trainer.global_step))
            self._batch_line("validate", args[3], self.total_val_batches_current_dataloader, timed=not in_fit)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_test_start(trainer, pl_module)
        self._begin(0)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().on_test_batch_end(trainer, *args, **kwargs)
        if args[3] == 0 and self.sample_every and not self._silenced:
            step = trainer.global_step if self._loaded_step is None else self._loaded_step
            self._show(evaluation_sample(args[1], step, "test"))
        self._batch_line("test", args[3], self.total_test_batches_current_dataloader)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bar before the figures are printed, which else would stand above it."""
        if trainer.state.fn == "validate":
            self.val_progress_bar.close()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the bar before the figures are printed, which else would stand above it."""
        self.test_progress_bar.close()

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
        if not self._due(done, total):
            return
        now = self._printed = time.monotonic()
        parts = [f"{what} {done}" + (f"/{int(total)}" if math.isfinite(total) else "")]
        if values:
            parts.append(format_metrics(values))
        if first is not None:
            elapsed = now - self._started
            parts.append(format_seconds(elapsed))
            if math.isfinite(total) and done > first:
                parts.append(f"{format_seconds(elapsed / (done - first) * (total - done))} left")
        self._print("  ".join(parts))

    def _print(self, text: str) -> None:
        print(text if self.label is None else f"[{self.label}] {text}", flush=True)

    def _due(self, done: int, total: float) -> bool:
        """True if a plain line is to be printed now."""
        late = time.monotonic() - self._printed >= self.every_n_seconds or done == total
        return self.plain and not self._silenced and late

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the bar of training."""
        bar = self.train_progress_bar
        bar.n = trainer.global_step
        bar.set_postfix(self.get_metrics(trainer, pl_module))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What the bar shows, at most a second old."""
        if time.monotonic() - self._read >= SECONDS_BETWEEN_READS:
            self._figures = self._current(trainer)
            self._read = time.monotonic()
        return {name: f"{value:.4g}" for name, value in self._figures.items()}

    def _current(self, trainer: Trainer) -> dict[str, float]:
        rate = self._rate.take() if self.metrics is None else None
        return {**shown_metrics(trainer, self.metrics), **({} if rate is None else {"tokens/s": rate})}

    def _sample(self, step: int, sample: Callable[[], str | None]) -> None:
        """Show a sample if it is time for one."""
        first, every = self._sampled_at is None, self.sample_every
        if every and not self._silenced and (first or (step % every == 0 and step != self._sampled_at)):
            self._sampled_at = step
            self._show(sample())

    def _show(self, text: str | None) -> None:
        if text is not None:
            write_line(f"[{self.label}] {text}" if self.label is not None else text)

    @staticmethod
    def _total_steps(trainer: Trainer) -> float:
        if trainer.max_steps > 0:
            return trainer.max_steps
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            return math.inf
        return trainer.estimated_stepping_batches
