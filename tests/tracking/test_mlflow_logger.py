from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import pytest
from mlflow import MlflowClient

from lightning_gfn.tracking.disk_logger import DiskLogger
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.tracking.mlflow_store import absolute_uri, flatten_params, new_params


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def dead_uri(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_run_parameters_metrics_tags_and_files_arrive(uri: str, tmp_path: Path) -> None:
    logger = MLflowLogger(run_dir=str(tmp_path / "runs" / "subtb"), tags={"note": "mine"})
    model = {"lr": 0.1, "long": "x" * 10_000}
    logger.log_hyperparams({"model": model, "callbacks": [{"class_path": "a.B"}], "empty": {}})
    logger.log_tags({"seed": 3, "method": "subtb"})
    for step in range(1200):
        logger.log_metrics({"train/loss": step / 2, "train/x": 1.0}, step)
    table = tmp_path / "samples.md"
    table.write_text("hello")
    logger.log_artifact_file(table, "samples")
    logger.finalize("success")

    client = MlflowClient(uri)
    record = json.loads((tmp_path / "runs" / "subtb" / "run.json").read_text())["mlflow"]
    assert record == {"run_id": logger.run_id, "tracking_uri": uri, "experiment_name": "lightning-gfn"}
    run = client.get_run(record["run_id"])
    assert run.info.run_name == "subtb" and run.info.status == "FINISHED"
    assert run.data.params["model.lr"] == "0.1" and len(run.data.params["model.long"]) == 500
    assert run.data.params["callbacks.0.class_path"] == "a.B" and run.data.params["empty"] == "{}"
    assert run.data.tags["seed"] == "3" and run.data.tags["method"] == "subtb" and run.data.tags["note"] == "mine"
    assert "version.torch" in run.data.tags
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(step, step / 2) for step in range(1200)]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "samples")] == ["samples/samples.md"]
    assert (tmp_path / "mlruns" / record["run_id"]).is_dir(), "artifacts lie beside the store"


def test_resume_goes_on_in_the_same_run(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = str(tmp_path / "run")
    lrs = (0.1, 0.2, 0.2, 0.1)
    for resume, lr in enumerate(lrs):
        logger = MLflowLogger(run_dir=folder)
        logger.log_hyperparams({"lr": lr, f"new{resume}": 1})
        logger.log_metrics({"train/loss": lr}, resume)
        logger.finalize("failed" if resume < 2 else "success")
    client = MlflowClient(uri)
    runs = client.search_runs(["1"])
    assert len(runs) == 1 and runs[0].info.status == "FINISHED"
    params = runs[0].data.params
    assert params["lr"] == "0.1" and params["lr.resumed1"] == "0.2" and params["lr.resumed3"] == "0.1"
    assert "lr.resumed2" not in params and {"new0", "new3"} <= set(params) and runs[0].data.tags["resumes"] == "3"
    assert [point.step for point in client.get_metric_history(runs[0].info.run_id, "train/loss")] == [0, 1, 2, 3]
    assert "refused" not in caplog.text


def test_logging_after_finalize_reopens_the_run(uri: str, tmp_path: Path) -> None:
    logger = MLflowLogger(run_dir=str(tmp_path / "run"))
    logger.log_metrics({"train/loss": 1.0}, 0)
    logger.finalize("success")
    logger.log_metrics({"test/x": 1.0}, 0)
    logger.finalize("success")
    run = MlflowClient(uri).get_run(str(logger.run_id))
    assert run.data.metrics == {"train/loss": 1.0, "test/x": 1.0} and run.info.status == "FINISHED"


def test_deleted_run_is_replaced(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = MLflowLogger(run_dir=str(tmp_path / "run"))
    first.log_metrics({"train/loss": 1.0}, 0)
    first.finalize("success")
    MlflowClient(uri).delete_run(str(first.run_id))
    second = MLflowLogger(run_dir=str(tmp_path / "run"))
    second.log_metrics({"train/loss": 1.0}, 0)
    second.finalize("success")
    assert second.run_id not in (None, first.run_id) and "is gone" in caplog.text


def test_dead_server_costs_no_step_and_no_figure(
    dead_uri: str, regression: L.LightningModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    start = time.monotonic()
    MLflowLogger(run_dir=str(folder), tracking_uri=dead_uri).finalize("success")
    loggers = [DiskLogger(folder), MLflowLogger(run_dir=str(folder), tracking_uri=dead_uri)]
    loggers[1].log_hyperparams({"lr": 1})
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=3,
        logger=loggers,
        log_every_n_steps=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with caplog.at_level(logging.WARNING):
        trainer.fit(regression)
    assert time.monotonic() - start < 15
    assert trainer.global_step == 3
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2] and all(row["train/loss"] > 0 for row in rows)
    told = [record.getMessage() for record in caplog.records if "MLflow at" in record.getMessage()]
    assert len(told) == 2 and "cannot be reached" in told[0] and "5 records were not delivered" in told[1]


def test_refused_record_costs_only_itself(uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = MLflowLogger(run_dir=str(tmp_path / "run"))
    logger.log_metrics({"train/a": 1.0}, 0)
    logger.log_artifact_file(tmp_path / "nowhere.txt")
    logger.log_metrics({"train/b": 2.0}, 1)
    logger.finalize("success")
    run = MlflowClient(uri).get_run(str(logger.run_id))
    assert run.data.metrics == {"train/a": 1.0, "train/b": 2.0}
    assert "refused a record" in caplog.text and "1 records were not delivered" in caplog.text


def test_processes_side_by_side_make_one_store(uri: str, tmp_path: Path) -> None:
    """The stages of the quickstart start at the same time, in a folder without a store."""
    children = []
    for number in range(3):
        if (child := os.fork()) == 0:
            logger = MLflowLogger(run_dir=str(tmp_path / f"run{number}"))
            for step in range(20):
                logger.log_metrics({"train/loss": 1.0}, step)
            logger.finalize("success")
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    client = MlflowClient(uri)
    runs = client.search_runs(["1"])
    assert sorted(run.info.run_name for run in runs) == ["run0", "run1", "run2"]
    assert all(len(client.get_metric_history(run.info.run_id, "train/loss")) == 20 for run in runs)


def test_uri_holds_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    logger = MLflowLogger(run_dir="run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert logger.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute_uri("http://host:5000") == "http://host:5000"
    assert absolute_uri("sqlite:////abs/x.db") == "sqlite:////abs/x.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:1")
    assert MLflowLogger().tracking_uri == "http://host:1"
    assert MLflowLogger(tracking_uri="http://host:2").tracking_uri == "http://host:2"


def test_parameter_rules() -> None:
    assert flatten_params({"a": {"b": [1, 2], "c": None}, "d@": {}}) == {"a.b": "[1, 2]", "a.c": "None", "d_": "{}"}
    known = {"a": "1", "b": "1", "b.resumed1": "2"}
    assert new_params({"a": "1", "b": "1", "c": "3"}, known, 2) == {"b.resumed2": "1", "c": "3"}
    assert new_params({"a": "1", "b": "2"}, known, 2) == {}
