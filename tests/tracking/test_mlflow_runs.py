"""Runs of an MLflow experiment, brought to disk as run folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.tracking.mlflow_runs import download_runs

EXPERIMENT = "a study / first"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield f"sqlite:///{tmp_path}/mlflow.db"


def log_run(store: str, folder: Path, name: str, *, evaluated: bool = True) -> str:
    """A run as the logger and the callbacks leave it; returns its id."""
    logger = MLflowLogger(experiment_name=EXPERIMENT, run_name=name, tracking_uri=store)
    source = folder / name
    (source / "results").mkdir(parents=True)
    files = {"budget.json": '{"reward_calls": 12}', "config.yaml": f"name: {name}\n"}
    results = {"test_metrics.json": json.dumps({"method": name}), "test_problems.jsonl": '{"problem_id": "p"}\n'}
    for path, text in files.items():
        (source / path).write_text(text)
        logger.log_artifact_file(source / path, None)
    for path, text in results.items() if evaluated else ():
        (source / "results" / path).write_text(text)
        logger.log_artifact_file(source / "results" / path, "results")
    for step in (9, 19):
        logger.log_metrics({"train/solve_rate_on_policy": step / 100, "budget/reward_calls": 4.0 * step}, step)
    logger.log_metrics({"val/solve_rate": 0.5, "val/solve_rate_ci95_low": 0.4, "train/loss": 1.0}, 20)
    logger.finalize("success")
    assert logger.run_id is not None
    return logger.run_id


def test_evaluated_runs_become_run_folders(store: str, tmp_path: Path) -> None:
    ids = [log_run(store, tmp_path / "runs", name, evaluated=name != "half") for name in ("sft", "half", "gone")]
    MlflowClient(store).delete_run(ids[2])
    folders = download_runs(EXPERIMENT, tmp_path / "out", uri=store)
    assert [folder.name for folder in folders] == [f"sft-{ids[0][:8]}"]
    assert folders[0].parent.name == "a_study_first"
    assert json.loads((folders[0] / "results" / "test_metrics.json").read_text()) == {"method": "sft"}
    assert (folders[0] / "results" / "test_problems.jsonl").read_text() == '{"problem_id": "p"}\n'
    assert (folders[0] / "config.yaml").read_text() == "name: sft\n"
    assert json.loads((folders[0] / "budget.json").read_text()) == {"reward_calls": 12}
    rows = [json.loads(line) for line in (folders[0] / "metrics.jsonl").read_text().splitlines()]
    assert [{key: value for key, value in row.items() if key != "time"} for row in rows] == [
        {"step": 9, "train/solve_rate_on_policy": 0.09, "budget/reward_calls": 36.0},
        {"step": 19, "train/solve_rate_on_policy": 0.19, "budget/reward_calls": 76.0},
        {"step": 20, "val/solve_rate": 0.5},
    ]
    (folders[0] / "stale.txt").touch()
    assert download_runs(EXPERIMENT, tmp_path / "out", uri=store) == folders
    assert not (folders[0] / "stale.txt").exists()
    with pytest.raises(
        FileNotFoundError, match=r"no run of MLflow experiment .* has results/val_metrics.json.*validate"
    ):
        download_runs(EXPERIMENT, tmp_path / "out", uri=store, stage="val")
    with pytest.raises(FileNotFoundError, match="has no experiment 'other'; it has .*a study / first"):
        download_runs("other", tmp_path / "out", uri=store)


def test_a_missing_store_is_not_made(store: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mlflow.db does not exist: check --tracking_uri"):
        download_runs(EXPERIMENT, tmp_path / "out", uri=store)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_filter_chooses_runs_and_pages_lose_none(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sft", "subtb", "grpo"):
        log_run(store, tmp_path / "runs", name)
    monkeypatch.setattr("lightning_gfn.tracking.mlflow_runs.PAGE", 1)
    assert len(download_runs(EXPERIMENT, tmp_path / "out", uri=store)) == 3
    only = "attributes.run_name = 'subtb' and metrics.`val/solve_rate` > 0.4"
    (folder,) = download_runs(EXPERIMENT, tmp_path / "out", uri=store, chosen=only)
    assert folder.name.startswith("subtb-")
    with pytest.raises(FileNotFoundError, match="no run of .* fits --filter .*> 9"):
        download_runs(EXPERIMENT, tmp_path / "out", uri=store, chosen="metrics.`val/solve_rate` > 9")
    with pytest.raises(ValueError, match="MLflow does not understand --filter 'method is subtb': .*\\nWrite it as"):
        download_runs(EXPERIMENT, tmp_path / "out", uri=store, chosen="method is subtb")
