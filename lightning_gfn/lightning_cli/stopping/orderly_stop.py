"""Stop between two steps, with a checkpoint that goes on as if nothing had happened."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback

from lightning_gfn.lightning_cli.stopping.rank_watch import RankWatch
from lightning_gfn.lightning_cli.stopping.signal_connector import SignalConnector
from lightning_gfn.stop_requests import Interrupted, StopRequests
from lightning_gfn.tracking.checkpoints import RunCheckpoint

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class OrderlyStop(Callback):
    """Ends training where nothing is lost: all ranks together, after the optimiser step under way.

    Within a validation of training, one process stops after the batch under way, with the state before the validation,
    which is then repeated; several finish it first, because their batches need not be equal in number.

    Args:
        requests: the signals of this process.
        watch: of the other ranks.
    """

    def __init__(self, requests: StopRequests, watch: RankWatch) -> None:
        self.requests = requests
        self.watch = watch
        self.before: dict[str, Any] | None = None
        self.total = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to watch the other ranks."""
        self.watch.start(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save."""
        self.requests.at_boundary = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after this batch if it made an optimiser step; the checkpoint callback, which comes later, saves."""
        if not trainer.fit_loop.epoch_loop._should_accumulate() and self._agreed(trainer):
            self._stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what a validation may change, and stop here if that was asked for."""
        if not within_training(trainer):
            return
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.total.reset_on_restart()
        self.total = progress.total.completed
        self.before = {callback.state_key: deepcopy(callback.state_dict()) for callback in callbacks_of(trainer)}
        if trainer.received_sigterm or self._agreed(trainer):
            self._save_before_validation(trainer)
            self.requests.check()

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop after this batch, if no other rank has to agree."""
        if within_training(trainer) and trainer.world_size == 1 and self.requests.signum is not None:
            self._save_before_validation(trainer)
            self.requests.check()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after this validation."""
        if within_training(trainer):
            self.before = None
            if self._agreed(trainer):
                self._stop(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Within a validation, the callbacks' states are those before it."""
        if self.before is not None:
            checkpoint["callbacks"].update({key: state for key, state in self.before.items() if state})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training is over: what follows stops at once."""
        self.requests.at_boundary = False
        self.requests.check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record the run as killed, and save if a batch of validation took too long."""
        if isinstance(exception, SystemExit) and self.requests.signum is not None:
            self.requests.obey()
            for logger in trainer.loggers:
                if (killed := getattr(logger, "killed", None)) is not None:
                    killed()
            if isinstance(exception, Interrupted) and self.before is not None and trainer.world_size == 1:
                self._save_before_validation(trainer)
        self.requests.at_boundary = False

    def _agreed(self, trainer: Trainer) -> bool:
        """True, on every rank, if any rank was asked to stop; all of them must ask."""
        signum = self.requests.signum or 0
        if trainer.world_size > 1:
            highest = torch.tensor(signum, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
            signum = int(highest)
            if signum:
                self.requests.note(signum)
        return signum != 0

    @staticmethod
    def _stop(trainer: Trainer) -> None:
        connector = trainer._signal_connector
        assert isinstance(connector, SignalConnector)
        connector.stop()

    def _save_before_validation(self, trainer: Trainer) -> None:
        """Save the state that repeats this validation: to Lightning's loops, its first batch is under way."""
        progress: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.current.reset()
        progress.total.ready = progress.total.started = self.total + 1
        progress.total.processed = progress.total.completed = self.total
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, RunCheckpoint):
                callback.save_last(trainer)
        self.before = None


def callbacks_of(trainer: Any) -> list[Callback]:
    """Every callback of a trainer."""
    return list(trainer.callbacks)


def within_training(trainer: Trainer) -> bool:
    """True in a validation of ``fit``."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking
