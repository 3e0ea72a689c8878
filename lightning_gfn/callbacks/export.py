"""Leave a Hugging Face folder behind, so that a later stage can start from this one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.run_files import run_folder
from lightning_gfn.interfaces import TextModel

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class ExportModel(Callback):
    """Saves the trained model and its tokenizer to ``<run folder>/<folder>`` when fitting has ended.

    Args:
        folder: name of the folder inside the run folder; an earlier export there is replaced as a whole.
    """

    def __init__(self, *, folder: str = "model") -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save into a side folder and rename it: a killed export never looks like a finished one.

        Raises:
            TypeError: the module has no such model.
        """
        name = getattr(pl_module, "model_name", "policy")
        model = getattr(pl_module, name, None)
        if not isinstance(model, TextModel):
            raise TypeError(
                f"ExportModel needs a module whose attribute {name!r} is a Policy or a reward network; "
                f"{type(pl_module).__name__} has {type(model).__name__}. Remove ExportModel from trainer.callbacks."
            )
        if trainer.is_global_zero:
            target = run_folder(trainer) / self.folder
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            model.save_pretrained(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        trainer.strategy.barrier("lightning_gfn.export_model")
