"""Checkpoints of sharded weights: a folder to which every process writes its part, read by any number of processes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

REST, TIED = "meta.pt", "tied_weights"
"""The file of all that is no tensor of weights or optimiser, and where it says which weights are others by name."""
WEIGHTS, MOMENTS = "state_dict", "optimizer_states"


def is_checkpoint_folder(path: Path) -> bool:
    """True if a folder holds what ``write_folder`` writes."""
    return (path / ".metadata").is_file() and (path / REST).is_file()


def write_folder(checkpoint: Mapping[str, Any], folder: Path, tied: Mapping[str, str]) -> None:
    """Write a checkpoint; every process must call it.

    Args:
        checkpoint: weights and optimiser states as this process holds them, and what is the same on all.
        folder: made if missing.
        tied: weights that are left out, with the name under which each is written.
    """
    import torch
    from torch import distributed
    from torch.distributed import checkpoint as folders

    tensors = {f"{WEIGHTS}.{name}": value for name, value in checkpoint[WEIGHTS].items() if name not in tied}
    groups = []
    for number, state in enumerate(checkpoint.get(MOMENTS, ())):
        for parameter, values in state["state"].items():
            tensors |= {f"{MOMENTS}.{number}.{parameter}.{name}": value for name, value in values.items()}
        groups.append({"state": {}, "param_groups": state["param_groups"]})
    folders.save(tensors, checkpoint_id=folder)
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        rest = {name: value for name, value in checkpoint.items() if name not in (WEIGHTS, MOMENTS)}
        written = {k: v for k, v in tied.items() if k in checkpoint[WEIGHTS]}
        torch.save({**rest, TIED: written, **({MOMENTS: groups} if MOMENTS in checkpoint else {})}, folder / REST)


def saved_tensors(folder: Path) -> dict[str, Any]:
    """Size and type of every tensor of a folder, by its full name."""
    from lightning_gfn.sharding.folder_reader import FolderReader

    return dict(FolderReader(folder).read_metadata().state_dict_metadata)


def cut_off_files(folder: Path) -> list[str]:
    """Files of a checkpoint folder that are missing or shorter than what was written to them."""
    from lightning_gfn.sharding.folder_reader import FolderReader

    ends: dict[str, int] = {}
    for place in FolderReader(folder).read_metadata().storage_data.values():
        ends[place.relative_path] = max(ends.get(place.relative_path, 0), place.offset + place.length)
    return [
        name for name, end in sorted(ends.items())
        if not (folder / name).is_file() or (folder / name).stat().st_size < end
    ]  # fmt: skip


def read_rest(folder: Path) -> dict[str, Any]:
    """All but the weights and the values of optimisers; in the place of weights, tensors without values."""
    import torch

    rest = dict(torch.load(folder / REST, map_location="cpu", weights_only=True))
    tied = rest.pop(TIED)
    weights = {
        name.removeprefix(f"{WEIGHTS}."): torch.empty(found.size, dtype=found.properties.dtype, device="meta")
        for name, found in saved_tensors(folder).items()
        if name.startswith(f"{WEIGHTS}.")
    }
    rest[WEIGHTS] = {**weights, **{name: weights[own] for name, own in tied.items()}}
    return rest


def read_folder(folder: Path) -> dict[str, Any]:
    """The checkpoint as one process would have written it into a file; reads all of it into the memory of this one."""
    import torch
    from torch.distributed import checkpoint as folders

    from lightning_gfn.sharding.folder_reader import FolderReader

    tensors = {
        name: torch.empty(found.size, dtype=found.properties.dtype) for name, found in saved_tensors(folder).items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # that is what is meant
        folders.load(tensors, storage_reader=FolderReader(folder), no_dist=True)
    rest = dict(torch.load(folder / REST, map_location="cpu", weights_only=True))
    tied = rest.pop(TIED)
    weights = {n.removeprefix(f"{WEIGHTS}."): t for n, t in tensors.items() if n.startswith(f"{WEIGHTS}.")}
    rest[WEIGHTS] = {**weights, **{name: weights[own] for name, own in tied.items()}}
    for number, state in enumerate(rest.get(MOMENTS, ())):
        state["state"] = by_parameter(tensors, number)
    return rest


def read_whole(path: Path) -> dict[str, Any]:
    """A checkpoint in the memory of this process: a folder, or a file, whose tensors stay on the disk until read."""
    import torch

    if path.is_dir():
        return read_folder(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))


def by_parameter(tensors: Mapping[str, Tensor], optimizer: int) -> dict[int, dict[str, Tensor]]:
    """The values of one optimiser, by the number of their parameter and their name."""
    found: dict[int, dict[str, Tensor]] = {}
    start = f"{MOMENTS}.{optimizer}."
    for key, value in tensors.items():
        if key.startswith(start):
            parameter, name = key.removeprefix(start).split(".", 1)
            found.setdefault(int(parameter), {})[name] = value
    return found


def read_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Fill this process's weights with what the folder has of them; every process must call it.

    Args:
        folder: a checkpoint.
        weights: by name; those that the folder lacks stay as they are.
    """
    from torch.distributed import checkpoint as folders

    from lightning_gfn.sharding.folder_reader import FolderReader

    saved = saved_tensors(folder)
    targets = {f"{WEIGHTS}.{name}": value for name, value in weights.items() if f"{WEIGHTS}.{name}" in saved}
    folders.load(targets, storage_reader=FolderReader(folder))


def read_moments(folder: Path, optimizers: Sequence[Optimizer]) -> list[dict[int, dict[str, Tensor]]]:
    """This process's part of the values of optimisers, by the numbers of their parameters; every process must call it.

    Args:
        folder: a checkpoint.
        optimizers: whose parameters say how values are cut.
    """
    import torch
    from torch.distributed import checkpoint as folders

    from lightning_gfn.sharding.folder_reader import FolderReader

    targets: dict[str, Any] = {}
    parameters = [[p for group in one.param_groups for p in group["params"]] for one in optimizers]
    for key, found in saved_tensors(folder).items():
        if key.startswith(f"{MOMENTS}."):
            optimizer, number, _ = key.removeprefix(f"{MOMENTS}.").split(".", 2)
            parameter = parameters[int(optimizer)][int(number)]
            alike = found.size == parameter.shape
            dtype = found.properties.dtype
            targets[key] = torch.empty_like(parameter, dtype=dtype, requires_grad=False) if alike else torch.empty(
                found.size, dtype=dtype
            )  # fmt: skip
    folders.load(targets, storage_reader=FolderReader(folder))
    return [by_parameter(targets, number) for number in range(len(optimizers))]
