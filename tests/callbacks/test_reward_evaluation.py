"""Figures of a reward model: against the metrics by hand, on disk, drawn, and through the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn import cli
from lightning_gfn.callbacks.reward_evaluation import RewardEvaluation, cross_entropy, sigmoid
from lightning_gfn.module_interfaces import MethodModule
from lightning_gfn.preference_types import Judgement

LABELS = [float(n % 3 != 0) for n in range(40)]
ODDS = [((7 * n) % 11 - 5) / 2 + LABELS[n] + 0.1 for n in range(40)]


class Judge(pl.LightningModule, MethodModule):
    """Judges number n with fixed log-odds; every fifth one comes twice."""

    method = "judge"
    trained_model: Any = None

    def test_step(self, batch: list[int], batch_idx: int) -> list[Judgement]:
        return [Judgement(f"r{n}", 0, ODDS[n], LABELS[n]) for n in batch for _ in range(1 + (n % 5 == 0))]

    def validation_step(self, batch: list[int], batch_idx: int) -> Any:
        return torch.zeros(())


@pytest.fixture
def tested(make_trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Figures that a test logs."""
    trainer = make_trainer(RewardEvaluation(num_bins=5))
    (figures,) = trainer.test(Judge(), DataLoader(range(40), batch_size=16, collate_fn=list), verbose=False)
    assert "judge, test: 40 labels, accuracy" in capsys.readouterr().out
    return figures


def test_figures_by_hand(tested: dict[str, float]) -> None:
    p = [1 / (1 + math.exp(-x)) for x in ODDS]
    right = sum((x > 0) == (y > 0.5) for x, y in zip(ODDS, LABELS, strict=True)) / 40
    good = [odds for odds, label in zip(ODDS, LABELS, strict=True) if label]
    bad = [odds for odds, label in zip(ODDS, LABELS, strict=True) if not label]
    pairs = [(a > b) + 0.5 * (a == b) for a in good for b in bad]
    nll = -sum(math.log(q if y else 1 - q) for q, y in zip(p, LABELS, strict=True)) / 40
    bins = [[i for i in range(40) if math.ceil(p[i] * 5) == k] for k in range(1, 6)]
    ece = sum(abs(sum(LABELS[i] - p[i] for i in part)) for part in bins) / 40
    expected = {
        "accuracy": right, "auroc": sum(pairs) / len(pairs), "nll": nll, "ece": ece,
        "brier": sum((q - y) ** 2 for q, y in zip(p, LABELS, strict=True)) / 40,
        "label_mean": sum(LABELS) / 40, "score_mean": sum(p) / 40, "num_labels": 40,
    }  # fmt: skip
    for name, value in expected.items():
        assert tested[f"test/{name}"] == pytest.approx(value, abs=1e-5), name
    assert 0 < tested["test/ece_equal_mass"] < 1


def test_files_and_plot(tested: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((tmp_path / "results" / "test_reward_model.json").read_text())
    assert content["method"] == "judge" and content["stage"] == "test"
    assert sum(found["count"] for found in content["bins"]["equal_width"]) == 40
    assert content["metrics"]["auroc"] == pytest.approx(tested["test/auroc"], abs=1e-6)
    rows = (tmp_path / "results" / "test_judgements.jsonl").read_text().splitlines()
    assert len(rows) == 40 and json.loads(rows[0])["id"] == "r0"
    assert cli.main(["reliability", str(tmp_path)]) == 0
    picture = tmp_path / "results" / "test_reliability.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    assert "AUROC" in capsys.readouterr().out


def test_a_run_without_figures_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reliability", str(tmp_path), "--stage", "val"]) == 1
    assert "lightning-gfn validate" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "test_reward_model.json").write_text('{"metrics": {}}')
    assert cli.main(["reliability", str(tmp_path)]) == 1
    assert "field 'bins' is missing" in capsys.readouterr().err


def test_other_outputs_are_refused(make_trainer: Any) -> None:
    with pytest.raises(TypeError, match="validation_step must return list"):
        make_trainer(RewardEvaluation()).validate(Judge(), DataLoader(range(4), batch_size=2), verbose=False)
    with pytest.raises(ValueError, match="num_bins must be at least 1"):
        RewardEvaluation(num_bins=0)


def test_extreme_log_odds_do_not_overflow() -> None:
    assert (sigmoid(1e4), sigmoid(-1e4)) == (1.0, 0.0)
    assert cross_entropy(1e4, 0.0) == pytest.approx(1e4) and cross_entropy(1e4, 1.0) == 0.0
    assert cross_entropy(0.3, 0.25) == pytest.approx(-0.25 * math.log(sigmoid(0.3)) - 0.75 * math.log(sigmoid(-0.3)))
