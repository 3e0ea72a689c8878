"""``trainer.strategy: fsdp2``: Lightning's model parallelism over data alone, with checkpoints in folders."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_gfn.sharding import checkpoint_folder

NAME = "fsdp2"
OTHERS = ("fsdp", "deepspeed", "modelparallel")
"""How the names of strategies begin that cut models in another way."""


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism (FSDP2): weights, gradients and optimiser states are cut over all processes.

    Args:
        save_distributed_checkpoint: every process writes its part into a folder; else the first one writes one file.
        process_group_backend: nccl or gloo; None for what fits the device.
        timeout: of collective operations.
    """

    def __init__(
        self,
        *,
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta | None = default_pg_timeout,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self.folder: Path | None = None

    def setup_environment(self) -> None:
        """Let every process take its share of the data."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    # ---------------------------------------------------------------- writing

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Weights as this process holds them."""
        assert self.model is not None
        return self.model.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """State as this process holds it."""
        return getattr(optimizer, "_optimizer", optimizer).state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write a folder together, or one file.

        Raises:
            OSError: the file system refuses.
        """
        from torch.distributed.checkpoint.api import CheckpointException

        path = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:
            ParallelStrategy.save_checkpoint(self, gathered(checkpoint), path, storage_options)
            return
        if self.is_global_zero and path.is_file():
            path.unlink()
        try:
            checkpoint_folder.write_folder(checkpoint, path, self.tied())
        except CheckpointException as error:
            if self.is_global_zero:
                shutil.rmtree(path, ignore_errors=True)
            raise OSError("; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))) from error

    def tied(self) -> dict[str, str]:
        """Weights that are others by name, and the first names of those."""
        assert self.model is not None
        first = {id(parameter): name for name, parameter in self.model.named_parameters()}
        names = self.model.named_parameters(remove_duplicate=False)
        return {name: first[id(parameter)] for name, parameter in names if first[id(parameter)] != name}

    # ---------------------------------------------------------------- reading

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Weights are read when the model is built, as by other strategies."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Optimiser states are read when there are optimisers."""
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """What a checkpoint holds beside weights and the values of optimisers, which stay on the disk."""
        path = Path(self.broadcast(checkpoint_path))
        self.folder = path if path.is_dir() else None
        if self.folder is not None:
            return checkpoint_folder.read_rest(path)
        return dict(torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True))

    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give every process its part of the weights.

        Raises:
            RuntimeError: ``strict`` and names differ.
        """
        assert self.model is not None
        own, saved = self.model.state_dict(), checkpoint["state_dict"]
        if strict and (other := sorted(own.keys() ^ saved.keys())):
            raise RuntimeError(f"the checkpoint and the model differ in {len(other)} weights, {other[0]!r} first")
        if self.folder is not None:
            checkpoint_folder.read_weights(self.folder, own)
            return
        for name in own.keys() & saved.keys():
            own[name].copy_(part_of(saved[name], own[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give every process its part of the optimiser states."""
        states: list[dict[str, Any]] = [dict(state) for state in checkpoint["optimizer_states"]]
        if self.folder is not None:
            for state, moments in zip(
                states, checkpoint_folder.read_moments(self.folder, self.optimizers), strict=True
            ):
                state["state"] = moments
        for optimizer, state in zip(self.optimizers, states, strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state["state"] = {
                number: {name: moment_of(value, parameters[number]) for name, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict(state)


def gathered(state: Any) -> Any:
    """A state with whole tensors in the place of shards; every process must call it."""
    from torch.distributed.tensor import DTensor

    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    return [gathered(value) for value in state] if isinstance(state, list) else state


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, cut as another one is; one that is cut stays as it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def moment_of(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A value of an optimiser, cut as its parameter is if there is one number for each of the parameter's."""
    return part_of(value, parameter) if value.shape == parameter.shape else value


def check_name(strategy: Any) -> None:
    """Refuse other sharded strategies by how a trainer's settings name them, before one looks for a GPU or a package.

    Args:
        strategy: a name, or ``class_path`` with arguments.

    Raises:
        ValueError: names the one to use.
    """
    name = str(getattr(strategy, "class_path", strategy)).rpartition(".")[2]
    if name != NAME and name.lower().startswith(OTHERS):
        raise ValueError(
            f"trainer.strategy {name} is not supported: set trainer.strategy to {NAME}, which cuts weights, gradients "
            "and optimiser states over all devices"
        )


if NAME not in StrategyRegistry:
    StrategyRegistry.register(NAME, ShardedStrategy, description="FSDP2: everything is cut over all processes")
