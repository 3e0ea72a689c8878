"""A real Trainer: the problems after a resume are those of an uninterrupted run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback


class SaveAt(Callback):
    """Save when so many batches were trained, at the hook where checkpoint callbacks save."""

    def __init__(self, path: Path, batches: int, hook: str) -> None:
        self.path, self.batches, self.hook = path, batches, hook

    def _save(self, trainer: Any, module: Any, hook: str) -> None:
        if hook == self.hook and len(module.trained) == self.batches and not self.path.exists():
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._save(trainer, pl_module, "batch")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._save(trainer, pl_module, "epoch")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._save(trainer, pl_module, "validation")


def run(data: Any, module: Any, trainer: Any, ckpt: Path | None = None) -> list[tuple[str, ...]]:
    trainer.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True if ckpt is not None else None)
    return module.trained


@pytest.mark.parametrize(
    ("settings", "saves"),
    [
        ({}, [(1, "batch"), (3, "batch"), (4, "batch"), (4, "epoch"), (5, "batch"), (8, "epoch"), (4, "validation")]),
        ({"limit_train_batches": 3}, [(2, "batch"), (3, "batch"), (3, "epoch"), (5, "batch")]),
        ({"val_check_interval": 2}, [(2, "batch"), (2, "validation"), (4, "validation"), (6, "batch")]),
        ({"accumulate_grad_batches": 2, "max_steps": 6}, [(2, "batch"), (4, "batch"), (6, "batch")]),
    ],
    ids=["whole epochs", "cut epochs", "validation within an epoch", "accumulation"],
)
@pytest.mark.filterwarnings("ignore")
def test_resumed_order_is_the_uninterrupted_one(
    settings: dict[str, Any],
    saves: list[tuple[int, str]],
    counting_data: Any,
    recording_module: Any,
    make_trainer: Any,
    tmp_path: Path,
) -> None:
    settings = {"max_steps": 10, **settings}
    whole = run(counting_data(batch_size=3), recording_module(), make_trainer(**settings))
    assert len(whole) >= 10
    for batches, hook in saves:
        path = tmp_path / f"{batches}-{hook}.ckpt"
        callbacks = [SaveAt(path, batches, hook)]
        run(counting_data(batch_size=3), recording_module(), make_trainer(callbacks=callbacks, **settings))
        assert path.exists(), (batches, hook)
        rest = run(counting_data(batch_size=3), recording_module(), make_trainer(**settings), path)
        assert whole[:batches] + rest == whole, (batches, hook)


@pytest.mark.filterwarnings("ignore")
def test_the_state_is_what_makes_it_so(
    counting_data: Any, recording_module: Any, make_trainer: Any, tmp_path: Path
) -> None:
    """Without the loader's state the comparison above fails, so it can fail."""
    whole = run(counting_data(batch_size=3), recording_module(), make_trainer(max_steps=10))
    path = tmp_path / "mid.ckpt"
    run(
        counting_data(batch_size=3),
        recording_module(),
        make_trainer(max_steps=10, callbacks=[SaveAt(path, 3, "batch")]),
    )
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["loops"]["fit_loop"]["state_dict"].pop("combined_loader")[0]["batch"] == 3
    torch.save(checkpoint, path)
    rest = run(counting_data(batch_size=3), recording_module(), make_trainer(max_steps=10), path)
    assert whole[:3] + rest != whole


@pytest.mark.filterwarnings("ignore")
def test_changed_data_is_refused_on_resume(
    counting_data: Any, recording_module: Any, make_trainer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mid.ckpt"
    run(
        counting_data(batch_size=3), recording_module(), make_trainer(max_steps=4, callbacks=[SaveAt(path, 3, "batch")])
    )
    with pytest.raises(ValueError, match="batch_size=3"):
        run(counting_data(batch_size=2), recording_module(), make_trainer(max_steps=10), path)


@pytest.mark.filterwarnings("ignore")
def test_validation_sees_each_problem_once(counting_data: Any, recording_module: Any, make_trainer: Any) -> None:
    module = recording_module()
    make_trainer(max_epochs=1, num_sanity_val_steps=0).fit(
        module, datamodule=counting_data(batch_size=3, eval_batch_size=2)
    )
    assert sorted(module.validated) == sorted(f"val/{i}" for i in range(5))


@pytest.mark.filterwarnings("ignore")
def test_an_empty_validation_split_is_skipped(counting_data: Any, recording_module: Any, make_trainer: Any) -> None:
    module = recording_module()
    make_trainer(max_epochs=1).fit(module, datamodule=counting_data(batch_size=3, max_val=0))
    assert len(module.trained) == 4
    assert module.validated == []
