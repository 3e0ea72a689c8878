"""Errors of users: a sentence and an exit status instead of a traceback, and a folder that blocks no next try."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn import cli
from lightning_gfn.lightning_cli.refusals import explained, users_error

FIT = ("fit", "--config", "base.yaml")


def caught(function: Any, *arguments: Any) -> BaseException:
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def test_ours_speak_for_themselves_and_faults_of_ours_do_not() -> None:
    from lightning_gfn.answers import check_style

    assert "unknown answer style 'x'" in str(explained(caught(check_style, "x")))
    assert explained(caught(check_style, 5)) is None, "a TypeError of Python within our code is a fault of ours"
    assert explained(caught(int, "x")) is not None, "this file is the user's code"


def test_a_users_error_names_its_file_line_and_function(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("import json\ndef f(text):\n    return json.loads(text)\n")
    namespace: dict[str, Any] = {"__name__": "own"}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    message = str(users_error(caught(namespace["f"], "{")))
    assert "JSONDecodeError" in message and "own.py, line 3, in f" in message


def refuse(self: Any, stage: str) -> None:
    raise ValueError("this model wants other data")


def fail(self: Any, batch: Any, batch_idx: int) -> None:
    raise KeyError("mine")


def test_a_refusal_in_the_set_up_is_a_line_and_the_next_start_is_free(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(import_module("standins").NoisyModule, "setup", refuse)
        assert cli.main([*FIT]) == 2
    said = capsys.readouterr().err
    assert "this model wants other data" in said and "Traceback" not in said
    assert "Traceback" in Path("run/error.txt").read_text()
    assert not Path("run/checkpoints").exists()
    assert cli.main([*FIT]) == 0, "a failed start blocks nothing"
    assert not Path("run/error.txt").exists()
    assert cli.main([*FIT]) == 2 and "already holds a run" in capsys.readouterr().err


def test_no_data_is_a_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*FIT, "--data", "null"]) == 1
    said = capsys.readouterr().err
    assert "train_dataloader" in said and "Traceback" not in said and said.count("\n") < 3


def test_an_error_of_the_users_code_in_training_keeps_its_traceback_in_a_file(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(import_module("standins").NoisyModule, "training_step", fail)
    assert cli.main([*FIT]) == 1
    said = capsys.readouterr().err
    assert "KeyError: 'mine' (" in said and "test_refusals.py, line" in said and "run/error.txt" in said
    assert "trainer.py" not in said and "in fail" in Path("run/error.txt").read_text()


def test_resume_says_that_there_is_nothing_to_resume(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run/samples").mkdir(parents=True)
    assert cli.main([*FIT, "--if_exists", "resume"]) == 0
    assert "run holds no checkpoint to resume from: fit starts at step 0" in capsys.readouterr().out
