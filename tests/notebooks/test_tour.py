"""The tour runs on what the real writers leave behind, and defines nothing."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import nbclient
import nbformat
import pytest

from lightning_gfn.callbacks.budget import Budget
from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.reports.comparison import Options
from lightning_gfn.reports.files import write_comparison
from lightning_gfn.tracking.mlflow_logger import MLflowLogger

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "notebooks" / "tour.ipynb"


@pytest.fixture
def quickstart(tmp_path: Path, replay: ModuleType) -> Path:
    """Two small runs through the trainer, the callbacks, the logger and the comparison."""
    loader = replay.make_loader(replay.make_problems(6))
    runs = []
    for method in ("sft", "subtb"):
        folder = tmp_path / f"{method}_seed0"
        folder.mkdir()
        logger = MLflowLogger(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", run_dir=str(folder))
        callbacks = [Evaluation(), Budget()]
        trainer = replay.quiet_trainer(callbacks, logger=logger, default_root_dir=folder, max_steps=3)
        trainer.fit(replay.ReplayModule(method=method), loader)
        trainer.test(replay.ReplayModule(method=method), loader, verbose=False)
        runs.append(folder)
    write_comparison(runs, tmp_path, options=Options(baseline="sft"), html=False)
    return tmp_path


def test_the_tour_runs_from_top_to_bottom(quickstart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_GFN_RUNS", str(quickstart))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook: Any = nbformat.read(TOUR, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(TOUR.parent)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    shown = "".join(str(output.get("data", output.get("text", ""))) for output in outputs)
    assert "6 points of 2 runs from MLflow" in shown
    assert "2 runs of 2 methods, 6 problems, 8 samples each" in shown
    assert "cannot be told apart" in shown and "How much is" in shown
    curves = next(cell for cell in notebook.cells if "get_metric_history" in cell.source)
    assert not any(output.get("name") == "stderr" for output in curves.outputs)


def test_the_tour_defines_nothing_and_is_committed_with_its_outputs() -> None:
    notebook: Any = nbformat.read(TOUR, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 7
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it anew, from top to bottom"
    for cell in code:
        assert cell.outputs, cell.source
        kinds = {(output.output_type, output.get("name", "")) for output in cell.outputs}
        assert ("error", "") not in kinds and ("stream", "stderr") not in kinds, cell.source
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        nodes = {type(node) for node in ast.walk(ast.parse(source))}
        assert not nodes & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4 and TOUR.stat().st_size < 1_000_000
    text = TOUR.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text), "a path of the machine that ran it"
