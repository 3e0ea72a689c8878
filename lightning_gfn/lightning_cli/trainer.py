"""Lightning's trainer with the entry point ``run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_gfn.lightning_cli.stopping.signal_connector import SignalConnector

TRAINER_DEFAULTS: dict[str, Any] = {
    # Our datamodules share the problems among ranks themselves, by problem id.
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
}


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Refuse two callbacks whose states a checkpoint cannot tell apart.

    Args:
        callbacks: of the trainer.

    Raises:
        ValueError: names the class that stands there twice.
    """
    stateful = [one for one in callbacks if is_overridden("state_dict", instance=one)]
    if twice := [key for key, count in Counter(one.state_key for one in stateful).items() if count > 1]:
        name = next(type(one).__name__ for one in stateful if one.state_key == twice[0])
        raise ValueError(
            f"trainer.callbacks holds {name} more than once: take one away ('callbacks+' adds to those of the files)"
        )


class RunTrainer(Trainer):
    """Lightning's trainer with one more entry point, which knows whether its set-up is over."""

    def __init__(self, **settings: Any) -> None:
        callbacks = settings.get("callbacks") or []
        check_callbacks([callbacks] if isinstance(callbacks, Callback) else callbacks)
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
