"""What a server missed is sent later, once: by the command ``sync`` and by every resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lightning_gfn.commands.results import sync
from lightning_gfn.tracking.disk_logger import DiskLogger
from lightning_gfn.tracking.mirror.points import points, points_of_run
from lightning_gfn.tracking.mirror.study import write_stages
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.tracking.run_folder import RunFolder


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def begin(folder: Path) -> tuple[DiskLogger, MLflowLogger]:
    """The two loggers as a run has them."""
    disk, logger = DiskLogger(folder), MLflowLogger(run_dir=str(folder), flush_seconds=10)
    logger.follow(disk)
    logger.hold_rows(True)
    return disk, logger


def train(folder: Path, first: int, last: int, status: str = "success", *, dead: bool = False) -> MLflowLogger:
    """Steps with a checkpoint after each third, as Lightning calls the loggers; a dead server refuses for good."""
    disk, logger = begin(folder)
    if dead:
        logger._connect = refuse  # type: ignore[method-assign]
    if first:
        for one in (disk, logger):
            one.resume_at(first)
    for step in range(first, last):
        disk.log_metrics({"train/loss": step / 3, "train/nan": float("nan")}, step)
        logger.log_metrics({"train/loss": step / 3}, step)
        if step % 3 == 2:
            logger.will_cover(step + 1)
            logger.release_rows()
    logger.finalize(status)
    return logger


def with_files(folder: Path) -> Path:
    (folder / "results").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed_everything: 3\nmlflow: {experiment_name: late, tags: {note: mine}}\n")
    (folder / "results" / "test_metrics.json").write_text("{}\n")
    made = {"created": "2026-01-01", "git_revision": "abc", "git_dirty": False, "versions": {"torch": "1"}}
    RunFolder(folder).update(tags={"method": "subtb"}, commands=[{"command": "fit"}], **made)
    return folder


def assert_mirrors(folder: Path, uri: str) -> None:
    run_id = json.loads((folder / "run.json").read_text())["mlflow"]["run_id"]
    there = points_of_run(MlflowClient(uri), run_id)
    assert len(there) == len(set(there)) and set(there) == points(DiskLogger(folder).rows())


def refuse() -> tuple[MlflowClient, str]:
    raise ConnectionError("connection refused")


def test_server_that_comes_after_the_end_gets_everything_once(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [with_files(tmp_path / "study" / name) for name in ("one", "two")]
    for folder in folders:
        train(folder, 0, 7, dead=True)
    assert not (tmp_path / "mlflow.db").exists()
    assert sync.main(["study", "--dry_run"]) == 0 and not (tmp_path / "mlflow.db").exists()
    assert "[1/2] study/one: MLflow lacks 7 figures, 3 parameters, 1 tags, 2 files, 1 status" in capsys.readouterr().out
    assert sync.main(["study"]) == 0
    assert "[2/2] study/two: sent 7 figures" in capsys.readouterr().out
    client = MlflowClient(uri)
    for folder in folders:
        assert_mirrors(folder, uri)
        run = client.get_run(json.loads((folder / "run.json").read_text())["mlflow"]["run_id"])
        assert run.info.status == "FINISHED" and run.data.params["seed_everything"] == "3"
        assert run.data.tags["method"] == "subtb" and run.data.tags["note"] == "mine"
        assert [file.path for file in client.list_artifacts(run.info.run_id, "results")] == [
            "results/test_metrics.json"
        ]
    assert sync.main(["study"]) == 0
    assert capsys.readouterr().out == "[1/2] study/one: up to date\n[2/2] study/two: up to date\n"
    assert len(client.search_runs([client.get_experiment_by_name("late").experiment_id])) == 2


def test_resume_sends_what_the_server_missed(uri: str, tmp_path: Path) -> None:
    folder = with_files(tmp_path / "run")
    train(folder, 0, 4, "failed")
    train(folder, 3, 8, "failed", dead=True)
    train(folder, 6, 10)
    assert_mirrors(folder, uri)
    assert [row["step"] for row in DiskLogger(folder).rows()] == list(range(10))


def test_rows_that_a_resume_repeats_are_held_back(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_files(tmp_path / "run")
    logger = train(folder, 0, 5, "failed")
    assert {point[1] for point in points_of_run(MlflowClient(uri), str(logger.run_id))} == {0, 1, 2}
    (folder / "checkpoints").mkdir()
    import torch

    torch.save({"rows": {"step": 3, "due": None}, "global_step": 3}, folder / "checkpoints" / "last.ckpt")
    assert sync.main(["run"]) == 0
    assert "2 rows come after its last checkpoint" in capsys.readouterr().out
    assert {point[1] for point in points_of_run(MlflowClient(uri), str(logger.run_id))} == {0, 1, 2}


def test_figures_that_the_disk_lacks_need_a_fresh_run(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_files(tmp_path / "run")
    logger = train(folder, 0, 3)
    MlflowClient(uri).log_metric(str(logger.run_id), "train/loss", 9.0, 1, 2)
    assert sync.main(["run"]) == 0 and "1 figures that the disk lacks" in capsys.readouterr().out
    assert sync.main(["run", "--fresh"]) == 0
    assert_mirrors(folder, uri)
    assert MlflowClient(uri).get_run(str(logger.run_id)).info.lifecycle_stage == "deleted"


def test_refusals_are_lines_with_a_remedy(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sync.main(["nowhere"]) == 2 and "name a run folder" in capsys.readouterr().err
    with_files(tmp_path / "run")
    assert sync.main(["run", "--tracking_uri", "http://127.0.0.1:9"]) == 1
    told = capsys.readouterr().err
    assert "Start the server" in told and "Traceback" not in told and len(told.splitlines()) == 3


def test_study_is_the_parent_of_its_stages(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One parent with the comparison, however often it is sent; what builds on what is a tag."""
    output = tmp_path / "study"
    ids = {name: str(train(with_files(output / name), 0, 3).run_id) for name in ("sft", "subtb")}
    MlflowClient(uri).log_metric(ids["subtb"], "test/solve_rate", 0.25)
    (output / "comparison.md").write_text("# Comparison\n")
    for _ in range(2):
        write_stages(output, {"sft": [], "subtb": ["sft"]})
        assert sync.main(["study", "--tracking_uri", "sqlite:///mlflow.db"]) == 0
        assert "study: 2 stages and the comparison stand under one run" in capsys.readouterr().out
    client = MlflowClient(uri)
    experiment = client.get_run(ids["sft"]).info.experiment_id
    (parent,) = client.search_runs([experiment], "tags.kind = 'study'")
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["comparison.md"]
    table = parent.data.tags["mlflow.note.content"].splitlines()
    assert table[0] == "| stage | test/solve_rate |" and table[2:] == ["| sft |  |", "| subtb | 0.25 |"]
    tags = client.get_run(ids["subtb"]).data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id and tags["builds_on_runs"] == ids["sft"]
    assert "builds_on" not in client.get_run(ids["sft"]).data.tags


def test_headline_of_a_test_is_the_description(uri: str, tmp_path: Path) -> None:
    disk, logger = begin(tmp_path / "run")
    logger.hold_rows(False)
    disk.log_metrics({"test/pass_at_8": 0.5, "test/pass_at_8_ci95_low": 0.4, "test/solve_rate": 0.25}, 3)
    logger.finalize("success")
    tags = MlflowClient(uri).get_run(str(logger.run_id)).data.tags
    assert tags["mlflow.note.content"].splitlines()[2:] == ["| test/pass_at_8 | 0.5 |", "| test/solve_rate | 0.25 |"]
    assert tags["mlflow.source.name"].startswith("lightning-gfn") and tags["mlflow.source.type"] == "LOCAL"
