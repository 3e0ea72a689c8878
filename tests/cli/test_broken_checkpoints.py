"""Broken checkpoints are refused in a line, before anything is changed, and the one before is offered."""

from __future__ import annotations

import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., int]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="injects faults into files")


class Payload:
    """Writes a file if it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def cut(share: float) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return apply


def flip(position: Callable[[Path], int]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        at, content = position(path), bytearray(path.read_bytes())
        content[at] ^= 0xFF
        path.write_bytes(bytes(content))

    return apply


def inside(part: str) -> Callable[[Path], int]:
    """The middle of the first record whose name contains ``part``."""

    def find(path: Path) -> int:
        with zipfile.ZipFile(path) as archive:
            record = next(info for info in archive.infolist() if part in info.filename)
            raw = path.read_bytes()
            start = raw.index(record.filename.encode(), record.header_offset) + len(record.filename)
            extra = int.from_bytes(raw[record.header_offset + 28 : record.header_offset + 30], "little")
        return start + extra + record.file_size // 2

    return find


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        checkpoint = torch.load(path, weights_only=True)
        changed = change(checkpoint)
        torch.save(checkpoint if changed is None else changed, path)

    return apply


def without(*names: str) -> Callable[[Path], None]:
    return edit(lambda checkpoint: [checkpoint.pop(name) for name in names] and None)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


def moments(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"][0]["state"][0]["exp_avg"].fill_(float("inf"))


def other_shape(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"]["layer.weight"] = torch.zeros(3, 2)


def other_optimizer(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"][0]["param_groups"] *= 2


def other_position(checkpoint: dict[str, Any]) -> None:
    checkpoint["loops"]["fit_loop"] = {"state_dict": {}, "epoch_loop.batch_progress": {"total": 3}}


def foreign_parameters(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer_states"][0]["state"][101] = {"step": torch.tensor(1.0)}


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut at 1%": (cut(0.01), "cut off or damaged"),
    "cut at 50%": (cut(0.5), "cut off or damaged"),
    "cut at 99%": (cut(0.99), "cut off or damaged"),
    "empty": (cut(0.0), "is empty"),
    "text": (lambda path: path.write_text("weights: 1\n") and None, "no checkpoint file"),
    "flipped in weights": (flip(inside("data/0")), "checksum"),
    "flipped in pickle": (flip(inside("data.pkl")), "checksum"),
    "flipped in directory": (flip(lambda path: path.read_bytes().rindex(b"PK\x01\x02") + 46), "damaged"),
    "flipped in a header": (flip(lambda path: 31), "damaged"),
    "old pickle": (lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False), "no checkpoint file"),
    "payload": (edit(lambda checkpoint: checkpoint.update(callbacks=Payload())), "nothing in it was executed"),
    "bare payload": (lambda path: path.write_bytes(pickle.dumps(Payload())) and None, "no checkpoint file"),
    "a list": (edit(lambda checkpoint: [checkpoint]), "holds a list"),
    "weights alone": (edit(lambda checkpoint: {"state_dict": checkpoint["state_dict"]}), "lacks global_step, epoch"),
    "no weights": (without("state_dict"), "lacks state_dict"),
    "no optimiser": (without("optimizer_states", "lr_schedulers"), "lacks optimizer_states, lr_schedulers"),
    "wrong type": (edit(lambda checkpoint: checkpoint.update(loops=[1])), "loops is list, not dict"),
    "NaN weights": (edit(lambda c: c["state_dict"]["layer.weight"].fill_(float("nan")) and None), "not finite"),
    "infinite moments": (edit(moments), "not finite"),
    "foreign parameters": (edit(foreign_parameters), "names parameters that no group holds"),
    "other shape": (edit(other_shape), "does not fit this configuration"),
    "other optimiser": (edit(other_optimizer), "does not fit this configuration"),
    "other position": (edit(other_position), "does not fit this configuration"),
    "future version": (edit(lambda c: c.update({"pytorch-lightning_version": "99.0"})), "Lightning 99.0"),
    "folder": (as_folder, "folder that holds no checkpoint"),
}  # fmt: skip
LATE = ("other shape", "other optimiser", "other position")
"""Only the built model can tell: then ``run.json`` has the command, and nothing else has changed."""


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def check_kind(kind: str, run: Run, workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, message = KINDS[kind]
    spoil(workspace / "run" / "checkpoints" / "last.ckpt")
    before = content_of(workspace / "run")
    capfd.readouterr()
    status = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "12")
    printed = capfd.readouterr()
    assert status == 2, kind
    said = [line for line in printed.err.splitlines() if line.startswith("lightning-gfn fit: ")]
    assert len(said) == 1 and message in said[0], f"{kind}: {printed.err[-2000:]}"
    assert "Traceback" not in printed.err, kind
    after = content_of(workspace / "run")
    if kind in LATE:
        before.pop("run.json"), after.pop("run.json")
    else:
        assert "last.ckpt" in said[0] and "previous.ckpt (step 6) is whole: give --ckpt_path" in said[0]
    assert after == before, kind
    assert not (workspace / "executed").exists(), kind


@linux_only
@pytest.mark.parametrize("kind", ["cut at 50%", "flipped in weights", "NaN weights"])
def test_broken_checkpoint_is_refused_and_the_one_before_goes_on(kind, run, workspace, capfd) -> None:
    assert run("fit") == 0
    check_kind(kind, run, workspace, capfd)
    previous = str(workspace / "run" / "checkpoints" / "previous.ckpt")
    assert run("fit", "--ckpt_path", previous, "--if_exists", "resume", "--trainer.max_steps", "9") == 0


@linux_only
@pytest.mark.slow
def test_25_kinds_of_broken_checkpoints(run, workspace, capfd) -> None:
    assert run("fit") == 0
    shutil.copytree(workspace / "run", workspace / "whole")
    assert len(KINDS) == 25
    for kind in KINDS:
        shutil.rmtree(workspace / "run")
        shutil.copytree(workspace / "whole", workspace / "run")
        check_kind(kind, run, workspace, capfd)


@linux_only
def test_unwritable_temporary_folder_does_not_matter(run, workspace, monkeypatch) -> None:
    """Every name that Python knows for temporary files leads nowhere."""
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    assert run("fit") == 0
    assert (workspace / "run" / "checkpoints" / "last.ckpt").is_file()
    assert not Path("/proc/nowhere").exists()


@linux_only
def test_full_disk_leaves_the_last_checkpoint_and_says_so(run, workspace, monkeypatch, capfd) -> None:
    assert run("fit", "--trainer.max_steps", "3", "--run_dir", "short") == 0
    good = (workspace / "short" / "checkpoints" / "last.ckpt").read_bytes()
    real = torch.save

    def full(checkpoint: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert run("fit", "--run_dir", "short", "--ckpt_path", "last") == 2
    said = capfd.readouterr().err
    assert "could not be written at step 4 (No space left on device)" in said and "last.ckpt of before is whole" in said
    assert "Traceback" not in said
    folder = workspace / "short" / "checkpoints"
    assert (folder / "last.ckpt").read_bytes() == good
    assert not list(folder.glob("*.partial"))
    monkeypatch.setattr(torch, "save", real)
    assert run("fit", "--run_dir", "short", "--ckpt_path", "last") == 0


@linux_only
def test_leftovers_of_a_kill_during_a_write_are_cleaned_up(run, workspace) -> None:
    assert run("fit", "--trainer.max_steps", "3") == 0
    stale = workspace / "run" / "checkpoints" / "last.ckpt.partial"
    stale.write_bytes(b"half")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "3", "--trainer.max_epochs", "9") == 0
    assert run("fit", "--ckpt_path", "last") == 0
    assert not stale.exists()
