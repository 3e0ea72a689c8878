"""Whole weights broadcast to the server's workers over NCCL, by the trainer's side of vLLM itself."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from lightning_gfn.policies.vllm.server import VllmServer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_package() -> None:
    """Refuse to broadcast without vLLM's own code.

    Raises:
        ValueError: names the package.
    """
    if find_spec("vllm") is None:
        raise ValueError(
            "vllm.transfer is nccl, which needs the package vllm (0.33 or later) beside the trainer: "
            "pip install 'lightning-gfn[vllm]', or set transfer to folder"
        )


class Broadcast:
    """A group of this process and the server's workers, made for one model when it is first sent.

    Args:
        server: its workers receive.
        address: of this machine, as the server reaches it; None asks the system.
    """

    def __init__(self, server: VllmServer, address: str | None) -> None:
        self.server, self.address = server, address
        self.sender: Any = None
        self.model: PreTrainedModel | None = None

    def send(self, model: PreTrainedModel) -> None:
        """Replace the server's weights by the model's.

        Raises:
            ValueError: if there are several training processes, of which one alone would be in the group.
        """
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise ValueError("vllm.transfer: nccl sends from one training process: use one, or transfer: folder")
        if self.model is not model:
            self.sender, self.model = self._join(model), model
        self.sender.send_weights()

    def _join(self, model: PreTrainedModel) -> Any:
        from vllm.distributed.weight_transfer import ModuleSource, WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        address = self.address if self.address is not None else socket.gethostbyname(socket.gethostname())
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        group = NCCLTrainerInitInfo(
            master_address=address, master_port=port, world_size=1 + self.server.num_workers(), rank=0
        )
        return WeightTransferTrainerFactory.trainer_init(group, client=self.server, source=ModuleSource(model))
