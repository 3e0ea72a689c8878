"""The notebook of targets runs on what the real writers leave in MLflow, reads nothing else and defines nothing."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nbclient
import nbformat
import pytest
from mlflow import MlflowClient

from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.metrics.classes import ClassDiversity
from lightning_gfn.solution_classes.known_paths import KnownPaths
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.types import EvalRecord, Problem

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "targets.ipynb"
WAYS = {"sft_skewed": (0.4, 0.2, 0.1), "VarGrad, alpha 1": (0.3, 0.3, 0.3)}
"""Probability of each known way under each fabricated policy."""


def run_all(monkeypatch: pytest.MonkeyPatch, store: str) -> tuple[str, int]:
    """What the notebook shows on a store, and its number of pictures."""
    monkeypatch.setenv("LIGHTNING_GFN_MLFLOW", store)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert all("tqdm" in output["text"] for output in outputs if output.get("name") == "stderr")
    shown = "".join(str(output.get("data", output.get("text", ""))) for output in outputs)
    return shown, sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture
def store(tmp_path: Path, replay: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that prefers a way and a model that takes every way alike, as trainer and study leave them."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    fabricated = replay.make_record
    problems = replay.make_problems(4)[::2]
    problems = [replace(problem, solutions=tuple(problem.solution_set or ())) for problem in problems]
    client = MlflowClient(tracking_uri=uri)
    for method, ways in WAYS.items():

        def scored(problem: Problem, t: float, n: int = 8, ways: tuple[float, ...] = ways) -> EvalRecord:
            record: EvalRecord = fabricated(problem, t, n)
            return replace(record, reference_log_probs=tuple(map(math.log, ways)), reference_actions=(5,) * 3)

        monkeypatch.setattr(replay, "make_record", scored)
        folder = tmp_path / method.replace(", ", "_")
        folder.mkdir()
        logger = MLflowLogger(tracking_uri=uri, run_dir=str(folder))
        callback = Evaluation(extra_metrics=[ClassDiversity(KnownPaths())])
        trainer = replay.quiet_trainer([callback], logger=logger, default_root_dir=folder, max_steps=2)
        trainer.test(replay.ReplayModule(method=method), replay.make_loader(problems), verbose=False)
        client.set_tag(logger.run_id, "study", "class_targets")
    return uri


def test_it_shows_shares_and_distances_and_says_which_rows_are_missing(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, pictures = run_all(monkeypatch, store)
    assert pictures == 4
    assert "class_targets: 2 runs" in shown and "run: sft_skewed, VarGrad, alpha 1" in shown
    assert "not run yet: rft_skewed" in shown and "12 probabilities" in shown
    preferring = [p / 0.7 for p in WAYS["sft_skewed"]]
    apart = sum(abs(p - 1 / 3) for p in preferring) / 2
    effective = math.exp(-sum(p * math.log(p) for p in preferring))
    for value in (0.7, 0.9, 3.0, round(apart, 3), round(effective, 3)):
        assert f">{value}<" in shown, value
    # The first model is at the target of α = 0 and the second at that of α = 1, each as far from the other's.
    assert shown.count("<td>0.000</td>") == 2 and shown.count(f"<td>{apart:.3f}</td>") == 2


def test_without_runs_it_says_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, pictures = run_all(monkeypatch, f"sqlite:///{tmp_path / 'none.db'}")
    assert pictures == 4 and "class_targets: 0 runs, seeds none" in shown
    assert "not run yet: make study NAME=class_targets" in shown


def test_it_defines_nothing_and_is_committed_with_its_outputs() -> None:
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it anew, from top to bottom"
    for cell in code:
        assert cell.outputs and not any(output.get("name") == "stderr" for output in cell.outputs), cell.source
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        nodes = {type(node) for node in ast.walk(ast.parse(source))}
        assert not nodes & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}
