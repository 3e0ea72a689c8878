"""The exported model: whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_gfn.callbacks.common.card_origin import front_matter
from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.callbacks.export import ExportModel
from lightning_gfn.interfaces import Policy


class Saved(Policy):
    """A policy that can only be saved."""

    max_new_tokens = 1
    min_new_tokens = 0

    def save_pretrained(self, folder: Path) -> None:
        (folder / "config.json").write_text("{}")


Saved.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def test_the_policy_is_saved_when_fitting_ends(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale.bin").write_text("old")
    module = replay.ReplayModule()
    module.policy = Saved()  # type: ignore[abstract]
    make_trainer(ExportModel(), max_steps=1).fit(module, replay.make_loader(replay.make_problems(2)))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["README.md", "config.json"]
    assert not (tmp_path / "model.partial").exists()


def test_a_test_adds_its_figures_to_the_card(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    module = replay.ReplayModule()
    module.policy = Saved()  # type: ignore[abstract]
    loader = replay.make_loader(replay.make_problems(6))
    trainer = make_trainer(Evaluation(num_resamples=20), ExportModel(), max_steps=1)
    card = tmp_path / "model" / "README.md"
    trainer.fit(module, loader)
    assert "have not been evaluated" in card.read_text() and front_matter(card)["lightning_gfn"]["step"] == 1
    trainer.test(module, loader, verbose=False)
    assert "Test: 6 problems, 8 samples each" in card.read_text() and "| solve_rate | " in card.read_text()
