"""Retention through the whole stack: reference_nll of a test run is the loss that supervised fine-tuning reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.types import Problem


def measured(module: SFTModule, make_trainer: Any, problems: list[Problem], folder: Path) -> dict[str, float]:
    trainer = make_trainer(1, callbacks=[Evaluation(ks=(1,), majority_ks=(1,))], default_root_dir=folder)
    batches = [problems[:2], problems[2:]]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    return dict(trainer.test(module, loader, verbose=False)[0])


@pytest.mark.parametrize("temperatures", [(1.0,), (0.5, 1.0)])
def test_it_is_the_supervised_loss(make_policy, make_trainer, letters, tmp_path, temperatures) -> None:
    one_each = [replace(problem, solutions=problem.solutions[:1]) for problem in letters]
    settings = EvaluationSettings(num_samples=2, temperatures=temperatures, max_rows=3, score_references=True)
    module = SFTModule(make_policy(), evaluation=settings)
    logged = measured(module, make_trainer, one_each, tmp_path)
    with torch.no_grad():
        per_problem = [float(module.solution_loss([problem], 0)[0].loss) for problem in one_each]
    assert logged["test/reference_nll"] == pytest.approx(sum(per_problem) / 3, abs=1e-5)
    assert not any(key.startswith("test/reference_nll_t") for key in logged)
    metrics = json.loads((tmp_path / "results" / "test_metrics.json").read_text())
    assert metrics["metrics"]["reference_nll"]["value"] == pytest.approx(sum(per_problem) / 3, abs=1e-5)
    assert "score_references" not in metrics["decoding"]
    rows = [json.loads(line) for line in (tmp_path / "results" / "test_problems.jsonl").read_text().splitlines()]
    found = {row["problem_id"]: row["metrics"]["reference_nll"] for row in rows if "reference_nll" in row["metrics"]}
    assert found == pytest.approx({p.id: loss for p, loss in zip(one_each, per_problem, strict=True)}, abs=1e-5)


def test_samples_are_the_same_and_keys_absent_without_it(make_policy, make_trainer, letters, tmp_path) -> None:
    logged = []
    for score in (False, True):
        settings = EvaluationSettings(num_samples=2, score_references=score)
        logged.append(measured(SFTModule(make_policy(), evaluation=settings), make_trainer, letters, tmp_path))
    added = {"test/reference_nll", "test/reference_nll_worst"}
    assert logged[1].keys() - logged[0].keys() == added
    assert {key: logged[1][key] for key in logged[0]} == logged[0]


def test_training_lowers_it(make_policy, make_trainer, letters, tmp_path) -> None:
    one_each = [replace(problem, solutions=problem.solutions[:1]) for problem in letters]
    settings = EvaluationSettings(num_samples=2, score_references=True)
    module = SFTModule(make_policy(), evaluation=settings, optimizer=OptimizerSettings(lr=1e-2))
    before = measured(module, make_trainer, one_each, tmp_path)
    loader = torch.utils.data.DataLoader([one_each] * 20, batch_size=None)  # type: ignore[arg-type]
    make_trainer(20).fit(module, loader)
    after = measured(module, make_trainer, one_each, tmp_path)
    for key in ("test/reference_nll", "test/reference_nll_worst"):
        assert after[key] < before[key] - 0.3
