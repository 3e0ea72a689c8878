"""Checkpoints in folders: what is written comes back, damage is found before anything is built, names stay whole."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.sharding.checkpoint_folder import read_folder, read_rest, read_whole, write_folder
from lightning_gfn.sharding.folder_reader import PlainUnpickler
from lightning_gfn.tracking.checkpoint_check import check_checkpoint
from lightning_gfn.tracking.checkpoint_io import WholeCheckpointIO
from lightning_gfn.tracking.checkpoints import keep, replace
from lightning_gfn.whole_files import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def state(seed: int = 0) -> dict[str, Any]:
    """A checkpoint as Lightning makes it of a model with tied weights and AdamW."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    weights = {"a.weight": layer.weight.detach(), "a.bias": layer.bias.detach(), "b.weight": layer.weight.detach()}
    return {
        "state_dict": weights, "optimizer_states": [optimizer.state_dict()], "global_step": 7, "epoch": 1,
        "loops": {"fit_loop": {}}, "callbacks": {}, "lr_schedulers": [], "extra": {"rows": [torch.arange(3)]},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of ``state``."""
    path = tmp_path / "last.ckpt"
    write_folder(state(), path, {"b.weight": "a.weight"})
    return path


def test_a_folder_gives_back_what_a_file_would(folder: Path) -> None:
    for read in (read_folder, read_whole, WholeCheckpointIO().load_checkpoint):
        assert equal(read(folder), state())  # type: ignore[operator]


def equal(one: Any, other: Any) -> bool:
    """True if two states hold the same, keys and tensors alike."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_equal_sees_differences() -> None:
    assert equal(state(), state()) and not equal(state(), state(1))


def test_the_rest_has_shapes_in_the_place_of_weights(folder: Path) -> None:
    rest = read_rest(folder)
    assert {name: tuple(w.shape) for name, w in rest["state_dict"].items()} == {
        "a.weight": (2, 3), "a.bias": (2,), "b.weight": (2, 3)
    }  # fmt: skip
    assert all(weight.is_meta for weight in rest["state_dict"].values())
    assert rest["global_step"] == 7


def test_a_whole_folder_passes(folder: Path) -> None:
    check_checkpoint(folder, fitting=True)


def cut(file: Path) -> None:
    """Take away the last bytes of a file."""
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(folder / "__0_0.distcp"), "is missing '__0_0.distcp', or the end"),
        (lambda folder: (folder / "__0_0.distcp").unlink(), "is missing '__0_0.distcp'"),
        (lambda folder: cut(folder / "meta.pt"), "is cut off or damaged"),
        (lambda folder: cut(folder / ".metadata"), "is damaged"),
        (lambda folder: (folder / ".metadata").unlink(), "is a folder that holds no checkpoint"),
    ],
)
def test_damage_is_found(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        check_checkpoint(folder, fitting=True)


class Harmful:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_folder_is_executed(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (folder / ".metadata").write_bytes(pickle.dumps(Harmful(trace)))
    for read in (read_folder, read_rest):
        with pytest.raises(pickle.UnpicklingError, match="is no part of a list of tensors"):
            read(folder)
    with pytest.raises(CheckpointError, match="is damaged"):
        check_checkpoint(folder, fitting=True)
    assert not trace.exists()
    pickle.loads((folder / ".metadata").read_bytes())
    assert trace.exists(), "it would have been"


def test_weights_alone_are_no_state_of_training(tmp_path: Path) -> None:
    write_folder({"state_dict": state()["state_dict"]}, tmp_path / "best.ckpt", {})
    check_checkpoint(tmp_path / "best.ckpt", fitting=False)
    with pytest.raises(CheckpointError, match="lacks global_step"):
        check_checkpoint(tmp_path / "best.ckpt", fitting=True)


@pytest.mark.parametrize("former_kind", ["folder", "file"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_one_before_stays_whatever_its_kind(tmp_path: Path, kind: str, former_kind: str) -> None:
    """A run may go on with another strategy: three checkpoints in a row, of which the last two remain."""
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for step, made in enumerate((former_kind, kind, former_kind)):
        partial = tmp_path / "last.ckpt.partial"
        if made == "folder":
            partial.mkdir()
        (partial / "step" if made == "folder" else partial).write_text(str(step))
        keep(last, previous)
        replace(partial, last, previous)
    found = {path.name: (path / "step" if path.is_dir() else path).read_text() for path in tmp_path.iterdir()}
    assert found == {"last.ckpt": "2", "previous.ckpt": "1"}


def test_members_of_enumerations_are_read_and_other_attributes_are_not() -> None:
    """Python up to 3.11.3 pickles a member as ``getattr(class, name)``."""

    def pickled(kind: bytes, name: bytes) -> bytes:
        return b"cbuiltins\ngetattr\n(c" + kind + b"\nV" + name + b"\ntR."

    encoding = b"torch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING"
    assert PlainUnpickler(io.BytesIO(pickled(encoding, b"TORCH_CONTIGUOUS_FORMAT"))).load() is not None
    for kind, name in ((encoding, b"__class__"), (b"torch\nSize", b"numel")):
        with pytest.raises(pickle.UnpicklingError, match="is no part of a list of tensors"):
            PlainUnpickler(io.BytesIO(pickled(kind, name))).load()
