"""A callback that kills its process, as a power cut would."""

from __future__ import annotations

import os
import signal
from typing import Any

from lightning.pytorch import Callback


class KillAt(Callback):
    """SIGKILL after the optimiser step of this number; never if 0."""

    def __init__(self, step: int = 0) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
