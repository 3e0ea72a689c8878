"""Lightning's trainer with the entry point ``run``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lightning_gfn.lightning_cli.stopping.signal_connector import SignalConnector

TRAINER_DEFAULTS: dict[str, Any] = {
    # Our datamodules share the problems among ranks themselves, by problem id.
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
}


class RunTrainer(Trainer):
    """Lightning's trainer with one more entry point, which knows whether its set-up is over."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._signal_connector = SignalConnector(self)

    is_set_up = False
    """True from the first stage on that runs after everything was set up."""

    def _run_stage(self) -> Any:
        self.is_set_up = True
        return super()._run_stage()

    def run(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Fit, then test the weights that it ended with.

        Args:
            model: what to train.
            datamodule: the data.
            ckpt_path: checkpoint to go on from (last, best, a path, none).
            weights_only: load checkpoints without unpickling code; True if not given.
        """
        self.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only)
        if not self.interrupted:
            self.test(model, datamodule=datamodule, verbose=False)
