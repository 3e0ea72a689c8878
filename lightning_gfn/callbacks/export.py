"""Leave a Hugging Face folder behind, so that a later stage can start from this one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.console import write_line
from lightning_gfn.callbacks.common.model_card import CARD, Training, model_card, read_training
from lightning_gfn.callbacks.common.run_files import run_folder
from lightning_gfn.finite import not_finite
from lightning_gfn.module_interfaces import as_method
from lightning_gfn.whole_files import replace_text, sync_folder, sync_tree

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class ExportModel(Callback):
    """Saves the trained model, its tokenizer and a model card to ``<run folder>/<folder>`` when fitting has ended.

    The card (``README.md``) says what the run folder says: base, data, method, settings, versions. A test or
    validation of the same weights adds its figures.

    Args:
        folder: name of the folder inside the run folder; an earlier export there is replaced as a whole.
    """

    def __init__(self, *, folder: str = "model") -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save into a side folder and rename it: a killed export never looks like a finished one.

        Raises:
            TypeError: the module trains no model that can be saved.
        """
        with as_method(pl_module, self).whole_weights():
            self.export(trainer, pl_module)

    def export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on the first process, which holds all weights."""
        model = as_method(pl_module, self).trained_model
        if broken := not_finite(pl_module.named_parameters()):
            if trainer.is_global_zero:
                write_line(f"[lightning-gfn] model not exported: weights are not finite, {broken[0]!r} among them")
            return
        if trainer.is_global_zero:
            target = run_folder(trainer) / self.folder
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            model.save_pretrained(partial)
            training = Training(as_method(pl_module, self).method, trainer.global_step, loaded_problems(trainer))
            replace_text(partial / CARD, model_card(run_folder(trainer), partial, training))
            sync_tree(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            sync_folder(target.parent)
        trainer.strategy.barrier("lightning_gfn.export_model")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the figures of the test to the card."""
        self.renew_card(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the figures of a validation after training to the card."""
        if trainer.state.fn == "validate":
            self.renew_card(trainer)

    def renew_card(self, trainer: Trainer) -> None:
        """Write the card again, if the folder has one of ours."""
        model = run_folder(trainer) / self.folder
        if trainer.is_global_zero and (training := read_training(model)) is not None:
            replace_text(model / CARD, model_card(run_folder(trainer), model, training))


def loaded_problems(trainer: Trainer) -> dict[str, int]:
    """How many problems each split has that was loaded; empty if the data cannot say."""
    count = getattr(getattr(trainer, "datamodule", None), "num_loaded", None)
    return dict(count()) if count is not None else {}
