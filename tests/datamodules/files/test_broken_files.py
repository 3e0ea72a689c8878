"""Broken data files: each loads rightly or is refused by a line that names file and place, and none hangs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broken_files import DEEP, ROWS, cases

from datamodules.files.problem_file import ProblemFile
from datamodules.lean_text import LeanText
from datamodules.preference import PreferenceDataModule
from datamodules.step_labels import StepwiseRows

READERS: dict[str, Callable[[Path], Any]] = {
    "problems": lambda path: ProblemFile(str(path), val_fraction=0.0, test_fraction=0.0).problems("train"),
    "messages": lambda path: ProblemFile(str(path), val_fraction=0.0, test_fraction=0.0).problems("train"),
    "preferences": lambda path: preferences(path),
    "theorems": lambda path: LeanText(str(path)).load_theorems("test"),
    "steps": lambda path: StepwiseRows(str(path), val_fraction=0.0, test_fraction=0.0).problems("train"),
}


def preferences(path: Path) -> Any:
    data = PreferenceDataModule(ProblemFile(str(path)), path=str(path))
    return data.load_examples()


def outcome(kind: str, file: Path) -> str:
    """What a user reads of a file; ``read`` if it was read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            READERS[kind](file)
    except (ValueError, OSError) as error:
        return str(error)
    return "read"


def check(kind: str, file: Path) -> None:
    said = outcome(kind, file)
    if said != "read":
        assert str(file) in said, f"it does not name the file: {said}"
        assert len(said.splitlines()) <= 3 and len(said) < 1000, said


def test_whole_files_are_read(tmp_path: Path) -> None:
    from broken_files import CONTAINERS

    for kind in READERS:
        for container, write in CONTAINERS.items():
            if not container.startswith("csv") or kind == "problems":
                file = tmp_path / f"{kind}.{container}"
                file.write_bytes(write(ROWS[kind]))
                assert outcome(kind, file) == "read", f"{kind}, {container}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"question": ' + DEEP.encode() + b"}\n", "nested too deeply"),
        (b'{"question": "a", "answer": ' + b"9" * 10_000 + b"}\n", "digits"),
        ('{"question": "a", "answer": "1"}\n'.encode("utf-16"), "UTF-16"),
        (b"", "empty"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    said = outcome("problems", file)
    assert words in said and f"{file}:1" in said


def test_skipped_theorems_are_counted_aloud(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"statement": ": 1 = 1"}\n{"statement": 5}\nnonsense\n{"statement": ": 2 = 2"}\n')
    with pytest.warns(UserWarning, match=r"skipped 2 of 4 rows.*rows.jsonl:2.*rows.jsonl:3"):
        assert len(LeanText(str(file), on_bad_row="skip").load_theorems("test")) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="permissions and links as on Linux")
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("folder.jsonl", "loop.jsonl", "pipe.jsonl", "missing.jsonl"):
        assert name in outcome(kind, tmp_path / name), name


@pytest.mark.parametrize("kind", READERS)
def test_every_broken_file_is_read_or_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    found = [case for case in cases() if case[0] == kind]
    assert len(found) > 100
    for number, (_, container, name, make) in enumerate(found):
        file = tmp_path / f"{number}.{container}"
        file.write_bytes(make())
        try:
            check(kind, file)
        except BaseException as error:
            raise AssertionError(f"{kind}, {container}, {name}: {type(error).__name__}: {error!s:.600}") from error


def test_there_are_many_cases() -> None:
    assert sum(1 for _ in cases()) >= 637
