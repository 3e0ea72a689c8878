from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_gfn.tracking.provenance import git_state, versions
from lightning_gfn.tracking.run_folder import IfExists, RunFolder, RunFolderError, Start


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def used(folder: RunFolder) -> RunFolder:
    folder.last_checkpoint.parent.mkdir(parents=True)
    folder.last_checkpoint.touch()
    return folder


@pytest.mark.parametrize("if_exists", ["error", "resume", "fresh"])
def test_new_and_empty_folders_just_start(folder: RunFolder, if_exists: IfExists) -> None:
    assert folder.plan_fit(if_exists, None) == Start()
    folder.path.mkdir()
    assert folder.plan_fit(if_exists, None) == Start()
    assert folder.plan_fit(if_exists, "none") == Start()


def test_decisions_on_a_used_folder(used: RunFolder, tmp_path: Path) -> None:
    last, other = used.last_checkpoint, tmp_path / "other.ckpt"
    other.touch()
    assert used.plan_fit("resume", None) == Start(last)
    assert used.plan_fit("error", "last") == Start(last)
    assert used.plan_fit("error", str(last)) == Start(last)
    assert used.plan_fit("resume", str(other)) == Start(other)
    assert used.plan_fit("fresh", str(other)) == Start(other, set_aside=True)
    assert used.plan_fit("fresh", None) == Start(None, set_aside=True)
    for if_exists, checkpoint, named in (
        ("error", None, "--if_exists resume"),
        ("error", "none", "--if_exists fresh"),
        ("error", str(other), "already holds a run"),
        ("fresh", "last", "contradict"),
        ("error", "best", "checkpoint.monitor"),
        ("resume", "nowhere.ckpt", "nowhere.ckpt"),
    ):
        with pytest.raises(RunFolderError, match=named):
            used.plan_fit(if_exists, checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.ckpt", "run"], "a plan changes nothing"


def test_resume_without_a_checkpoint_starts_over_but_last_does_not(folder: RunFolder) -> None:
    folder.update(x=1)
    assert folder.plan_fit("resume", None) == Start()
    with pytest.raises(RunFolderError, match="does not exist"):
        folder.plan_fit("resume", "last")


def test_evaluation_prefers_the_last_checkpoint(used: RunFolder, tmp_path: Path) -> None:
    assert used.plan_evaluation(None) == used.plan_evaluation("last") == used.last_checkpoint
    assert used.plan_evaluation("none") is None
    assert RunFolder(tmp_path / "empty").plan_evaluation(None) is None


def test_set_aside_never_overwrites(folder: RunFolder) -> None:
    for number in (1, 2, 3):
        folder.update(number=number)
        assert folder.set_aside().name == f"run.old-{number}"
    assert json.loads((folder.path.parent / "run.old-2" / "run.json").read_text()) == {"number": 2}


def test_run_file_keeps_its_first_entries(folder: RunFolder) -> None:
    folder.stamp("fit")
    folder.update(mlflow={"run_id": "abc"})
    first = folder.read()
    folder.stamp("test", resumed_from=folder.last_checkpoint)
    second = folder.read()
    assert second["created"] == first["created"] and second["mlflow"] == {"run_id": "abc"}
    assert [entry["command"] for entry in second["commands"]] == ["fit", "test"]
    assert {"python", "torch", "lightning"} <= set(second["versions"]) and second["versions"] == versions()
    assert [path.name for path in folder.path.iterdir()] == ["run.json"], "no half-written file stays behind"


def test_broken_run_file_is_named(folder: RunFolder) -> None:
    folder.update(x=1)
    folder.run_file.write_text("{")
    with pytest.raises(RunFolderError, match=r"run\.json"):
        folder.read()


def test_git_state_outside_a_repository(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
