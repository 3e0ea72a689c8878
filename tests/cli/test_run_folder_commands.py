from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

Run = Callable[..., int]
Rows = Callable[[Path], list[dict[str, Any]]]


def last(folder: Path = Path("run")) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_run_fits_and_tests_in_one_folder(run: Run, workspace: Path, rows_of: Rows) -> None:
    assert run("run") == 0
    folder = workspace / "run"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "metrics.jsonl",
        "run.json",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}
    rows = rows_of(folder)
    assert [row["step"] for row in rows if row["train/loss"]] == [str(step) for step in range(8)]
    assert [row["step"] for row in rows if row["val/loss"]] == ["3"]
    assert float(rows[-1]["test/weight"]) == pytest.approx(float(last()["state_dict"]["layer.weight"]))
    json_rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [str(row["step"]) for row in json_rows] == [row["step"] for row in rows]
    identity = json.loads((folder / "run.json").read_text())
    assert identity["versions"]["torch"] == torch.__version__ and identity["commands"][0]["command"] == "run"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["class_path"] == "standins.NoisyModule" and config["trainer"]["max_steps"] == 8
    assert not {"ckpt_path", "if_exists", "config"} & set(config)


def test_saved_config_repeats_the_run(run: Run, workspace: Path, rows_of: Rows) -> None:
    assert run("fit", "--model.init_args.lr", "0.05") == 0
    saved = (workspace / "run" / "config.yaml").read_text()
    (workspace / "base.yaml").write_text(saved)
    assert run("fit", "--run_dir", "again") == 0
    assert rows_of(workspace / "run") == rows_of(workspace / "again")
    assert run("test") == 0, "the fit's configuration serves the other commands as well"


def test_used_folder_needs_a_decision(run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "run").mkdir()
    (workspace / "run" / "notes.txt").write_text("mine")
    marker = workspace / "marker"
    assert run("fit", "--model.init_args.marker", str(marker)) == 2
    message = capsys.readouterr().err
    assert "--if_exists resume" in message and "--if_exists fresh" in message and "--ckpt_path last" in message
    assert not marker.exists() and [path.name for path in (workspace / "run").iterdir()] == ["notes.txt"]


def test_fresh_moves_the_old_run_aside(run: Run, workspace: Path, rows_of: Rows) -> None:
    assert run("fit") == 0
    first = rows_of(workspace / "run")
    for number in (1, 2):
        assert run("fit", "--if_exists", "fresh", "--seed_everything", "7") == 0
        assert (workspace / f"run.old-{number}" / "checkpoints" / "last.ckpt").exists()
    assert rows_of(workspace / "run.old-1") == first
    assert rows_of(workspace / "run") == rows_of(workspace / "run.old-2") != first


def test_resume_continues_without_repeating_a_step(run: Run, workspace: Path, rows_of: Rows) -> None:
    assert run("fit", "--trainer.max_steps", "5") == 0
    former = (workspace / "run" / "config.yaml").read_text()
    assert run("fit", "--if_exists", "resume") == 0
    assert run("fit", "--run_dir", "straight") == 0
    assert rows_of(workspace / "run") == rows_of(workspace / "straight")
    assert torch.equal(last()["state_dict"]["layer.weight"], last(Path("straight"))["state_dict"]["layer.weight"])
    assert (workspace / "run" / "config.1.yaml").read_text() == former
    assert yaml.safe_load((workspace / "run" / "config.yaml").read_text())["trainer"]["max_steps"] == 8
    commands = json.loads((workspace / "run" / "run.json").read_text())["commands"]
    assert [entry["checkpoint"] is not None for entry in commands] == [False, True]


def test_missing_checkpoints_are_errors(run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = str(workspace / "marker")
    for arguments in (
        ("fit", "--ckpt_path", "last"),
        ("test", "--ckpt_path", "last"),
        ("test", "--ckpt_path", "best"),
        ("predict", "--ckpt_path", "nowhere.ckpt"),
        ("fit", "--ckpt_path", "last", "--if_exists", "fresh"),
    ):
        assert run(*arguments, "--model.init_args.marker", marker) == 2
        assert "ckpt" in capsys.readouterr().err
    assert not (workspace / "run").exists() and not Path(marker).exists()


def test_evaluation_takes_the_checkpoint_asked_for(run: Run, workspace: Path, rows_of: Rows) -> None:
    assert (
        run("fit", "--checkpoint.monitor", "val/loss", "--checkpoint.mode", "min", "--trainer.val_check_interval", "2")
        == 0
    )
    best = torch.load(workspace / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    losses = {row["step"]: float(row["val/loss"]) for row in rows_of(workspace / "run") if row["val/loss"]}
    assert len(losses) == 4 and best["global_step"] - 1 == int(min(losses, key=losses.__getitem__))
    weights = []
    for checkpoint in (None, "last", "best", "none", str(workspace / "run" / "checkpoints" / "best.ckpt")):
        assert run("test", *(("--ckpt_path", checkpoint) if checkpoint is not None else ())) == 0
        weights.append(float(rows_of(workspace / "run")[-1]["test/weight"]))
    assert weights[0] == weights[1] == pytest.approx(float(last()["state_dict"]["layer.weight"]))
    assert weights[2] == weights[4] == pytest.approx(float(best["state_dict"]["layer.weight"]))
    assert weights[3] not in weights[:3]


def test_command_line_beats_the_checkpoint(run: Run, workspace: Path) -> None:
    assert run("fit", "--trainer.max_steps", "2") == 0
    state = last()
    state["hyper_parameters"] = {"lr": 77.0, "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    torch.save(state, workspace / "run" / "checkpoints" / "last.ckpt")
    assert (
        run("fit", "--ckpt_path", str(workspace / "run" / "checkpoints" / "last.ckpt"), "--trainer.max_steps", "3") == 0
    )
    config = yaml.safe_load((workspace / "run" / "config.yaml").read_text())
    assert config["model"]["init_args"]["lr"] == 0.1


def test_checkpoint_of_code_is_refused(run: Run, workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--trainer.max_steps", "2") == 0
    state = last()
    state["callbacks"]["evil"] = Path
    torch.save(state, workspace / "run" / "checkpoints" / "last.ckpt")
    assert run("fit", "--if_exists", "resume") == 2
    said = capfd.readouterr().err
    assert "last.ckpt" in said and "Traceback" not in said
