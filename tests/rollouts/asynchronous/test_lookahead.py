"""What is foreseen of a run is what Lightning then does: at every point, to the end, after resumes as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from datamodules.common.order import TrainLoader
from lightning_gfn.rollouts.asynchronous.lookahead import Course, ForeseenBatches, Place
from lightning_gfn.types import Problem

Use = tuple[int, int, tuple[str, ...]]


class Recorder(L.LightningModule):
    """Uses each rollout batch ``repeats`` times and writes down its use and what was foreseen at every point."""

    def __init__(self, repeats: int) -> None:
        super().__init__()
        self.repeats, self.number, self.done = repeats, 0, 0
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.uses: list[Use] = []
        self.foreseen: list[tuple[int, list[Use]]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch

    def look(self, next_batch: int) -> None:
        trainer, loader = self.trainer, self.trainer.train_dataloader
        assert isinstance(loader, ForeseenBatches)
        course = Course(
            loader.epoch, next_batch, self.global_step, self.number,
            int(min(len(loader), trainer.num_training_batches)),
            None if trainer.max_epochs in (None, -1) else trainer.max_epochs - trainer.current_epoch,
            trainer.max_steps if trainer.max_steps >= 0 else None, trainer.accumulate_grad_batches, self.repeats,
        )  # fmt: skip
        self.foreseen.append((self.number, [use_of(place, loader) for place in course.places()]))

    def training_step(self, batch: list[Problem], batch_idx: int) -> torch.Tensor:
        if self.done % self.repeats == 0:
            self.look(self.trainer.train_dataloader.batch - 1)
            self.uses.append((self.number, self.global_step, tuple(problem.id for problem in batch)))
            self.number += 1
        self.done += 1
        return self.weight**2

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.look(self.trainer.train_dataloader.batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["counters"] = (self.number, self.done)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.number, self.done = checkpoint["counters"]


class SaveAfter(L.Callback):
    """Saves a checkpoint after so many steps, while training goes on."""

    def __init__(self, steps: int, path: Path) -> None:
        self.steps, self.path = steps, path

    def on_train_batch_end(self, trainer: L.Trainer, *others: Any) -> None:
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)


def use_of(place: Place, loader: ForeseenBatches) -> Use:
    ids = tuple(problem.id for problem in loader.batch_at(place.epoch, place.batch))
    return place.rollout_step, place.optimizer_step, ids


def loader(repeats: int, **changes: Any) -> TrainLoader:
    problems = [Problem(id=f"p{i}", prompt="x") for i in range(11)]
    return TrainLoader(problems, **{"batch_size": 3, "seed": 5, "repeats": repeats, **changes})


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    return L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", devices=1,
        use_distributed_sampler=False, default_root_dir=folder, enable_checkpointing=False, **settings,
    )  # fmt: skip


def agree(module: Recorder) -> None:
    """Every prediction is the rest of what happened."""
    first = module.uses[0][0]
    for number, foreseen in module.foreseen:
        assert foreseen == module.uses[number - first :], number


CASES = [
    (1, {"max_epochs": 3}),
    (1, {"max_steps": 10, "max_epochs": -1}),
    (1, {"max_epochs": 3, "accumulate_grad_batches": 3}),
    (1, {"max_steps": 5, "max_epochs": -1, "accumulate_grad_batches": 3}),
    (4, {"max_epochs": 2, "accumulate_grad_batches": 2}),
    (2, {"max_epochs": 3, "accumulate_grad_batches": 2, "limit_train_batches": 6}),
    (1, {"max_epochs": 4, "limit_train_batches": 3}),
    (1, {"max_epochs": 3, "limit_train_batches": 0.5}),
    (2, {"max_steps": 7, "max_epochs": -1}),
]


@pytest.mark.parametrize(("repeats", "settings"), CASES)
def test_what_is_foreseen_happens(tmp_path: Path, repeats: int, settings: dict[str, Any]) -> None:
    module = Recorder(repeats)
    trainer(tmp_path, **settings).fit(module, loader(repeats))
    assert len(module.uses) >= 3
    agree(module)


@pytest.mark.parametrize("steps", [2, 4, 5])
def test_after_a_resume_as_well(tmp_path: Path, steps: int) -> None:
    """In the middle of an epoch and at its end (four batches)."""
    whole = Recorder(1)
    trainer(tmp_path, max_steps=9, max_epochs=-1).fit(whole, loader(1))
    first = Recorder(1)
    saving = SaveAfter(steps, tmp_path / "some.ckpt")
    trainer(tmp_path, max_steps=steps, max_epochs=-1, callbacks=[saving]).fit(first, loader(1))
    resumed = Recorder(1)
    trainer(tmp_path, max_steps=9, max_epochs=-1).fit(resumed, loader(1), ckpt_path=tmp_path / "some.ckpt")
    assert first.uses + resumed.uses == whole.uses
    agree(resumed)


def test_ranks_look_at_their_own_share(tmp_path: Path) -> None:
    shares = [loader(1, rank=rank, world_size=2).batch_at(3, 1) for rank in range(2)]
    whole = loader(1).batch_at(3, 1)
    assert [shares[i % 2][i // 2].id for i in range(3)] == [problem.id for problem in whole]


def test_looking_ahead_moves_nothing() -> None:
    looked, plain = loader(2), loader(2)
    seen = []
    for batch in looked:
        looked.batch_at(looked.epoch + 1, 0), looked.batch_at(looked.epoch + 2, 3)
        seen.append([problem.id for problem in batch])
    assert seen == [[problem.id for problem in batch] for batch in plain]
    assert looked.state_dict() == plain.state_dict()
