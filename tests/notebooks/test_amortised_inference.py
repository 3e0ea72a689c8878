"""The notebook of amortised inference runs on what the real writers leave in MLflow, and reads nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nbclient
import nbformat
import pytest
from mlflow import MlflowClient

from lightning_gfn.callbacks.budget import Budget
from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.types import EvalRecord, Problem

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "amortised_inference.ipynb"
TARGET = {str(n): math.log(0.25) for n in range(4)}


@pytest.fixture
def store(tmp_path: Path, replay: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two methods on a target that is enumerated, and one run of another study, as trainer and study leave them."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    fabricated = replay.make_record

    def exact(problem: Problem, temperature: float, num_samples: int = 8) -> EvalRecord:
        record: EvalRecord = fabricated(problem, temperature, num_samples)
        return replace(record, target_log_probs=(math.log(0.5), math.log(0.2), math.log(0.2), math.log(0.05)))

    monkeypatch.setattr(replay, "make_record", exact)
    client = MlflowClient(tracking_uri=uri)
    for name, study in (("base", "random_integers"), ("vargrad", "random_integers"), ("grpo", "amortised")):
        problems = replay.make_problems(2)
        if study == "random_integers":
            problems = [replace(problem, target=TARGET) for problem in problems[:1]]
        folder = tmp_path / name
        folder.mkdir()
        logger = MLflowLogger(tracking_uri=uri, run_dir=str(folder))
        callbacks, loader = [Evaluation(), Budget()], replay.make_loader(problems)
        trainer = replay.quiet_trainer(callbacks, logger=logger, default_root_dir=folder, max_steps=2)
        trainer.fit(replay.ReplayModule(method=name), loader)
        trainer.test(replay.ReplayModule(method=name), loader, verbose=False)
        client.set_tag(logger.run_id, "study", study)
    return uri


def test_it_runs_from_top_to_bottom_and_says_what_is_missing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_GFN_MLFLOW", store)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "".join(str(output.get("data", output.get("text", ""))) for output in outputs)
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 3
    assert "random_integers: 2 runs" in shown and "amortised: 1 runs" in shown
    assert "continuation: 0 runs, seeds none: not run yet" in shown
    assert ">0.95<" in shown and ">0.3<" in shown, "mass and total variation of the fabricated policy"
    assert "subjectivity: not run yet: make study NAME=subjectivity" in shown
    assert all("tqdm" in output["text"] for output in outputs if output.get("name") == "stderr")


def test_it_is_committed_with_its_outputs() -> None:
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it anew, from top to bottom"
    for cell in code:
        assert cell.outputs, cell.source
        assert "def " not in cell.source
