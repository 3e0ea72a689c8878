"""The figures of a progress line: a few logged metrics under short names, and tokens per second."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

SHOWN = {
    "train/loss": "loss",
    "train/grad_norm": "gradient",
    "train/log_reward_mean": "log_reward",
    "train/solve_rate_on_policy": "solved",
    "train/truncated_share": "cut",
}
"""Keys of the metrics shown by default, and their short names."""


def shown_metrics(trainer: Trainer, chosen: Sequence[str] | None) -> dict[str, float]:
    """The values to show, read off the device: the chosen metrics, else those of ``SHOWN`` and of ``prog_bar=True``."""
    known = trainer.callback_metrics
    if chosen is not None:
        return {name: float(known[name]) for name in chosen if name in known}
    shown: dict[str, Any] = {short: known[name] for name, short in SHOWN.items() if name in known}
    shown |= {name: value for name, value in trainer.progress_bar_metrics.items() if name not in SHOWN}
    return {name: float(value) for name, value in shown.items()}


class TokenRate:
    """Tokens per second of this process within training steps: those sampled, or those trained on if none are."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._seconds = 0.0
        self._sampled = 0
        self._trained = 0

    def start(self) -> None:
        """A training step begins."""
        self._started = time.monotonic()

    def add(self, outputs: object) -> None:
        """A training step has ended with these outputs."""
        self._seconds += time.monotonic() - self._started
        counts = outputs if isinstance(outputs, Mapping) else {}
        self._sampled += int(counts.get("generated_tokens", 0))
        self._trained += int(counts.get("gradient_tokens", 0))

    def take(self) -> float | None:
        """The rate since the last call; None if nothing was counted."""
        tokens, seconds = self._sampled or self._trained, self._seconds
        self._seconds, self._sampled, self._trained = 0.0, 0, 0
        return tokens / seconds if tokens and seconds > 0 else None
