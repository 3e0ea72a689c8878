"""Pushing the policy's weights to the server when they have changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from torch import Tensor, nn

from lightning_gfn.policies.models import adapters, export
from lightning_gfn.policies.models.weight_state import WeightState, adapter_state
from lightning_gfn.policies.vllm.nccl import Broadcast
from lightning_gfn.policies.vllm.server import VllmServer
from lightning_gfn.policies.vllm.settings import VllmSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ADAPTER = "lightning-gfn-"
"""What names of our adapters begin with; their version follows."""
WITHOUT_EMBEDDINGS = {"save_embedding_layers": False}
STRIDES = (1, 2, 3)


class PushedWeights:
    """The weights that the server holds, brought up to date before each use.

    A version is named by what the weights are. So all ranks agree on it, and whichever comes first pushes it while the
    others wait: the server gets each version once. An adapter's name holds its version, so that the server cannot
    sample from another one, nor from prefixes that another one left in its cache.

    Args:
        settings: the folder.
        server: where they go.
    """

    def __init__(self, settings: VllmSettings, server: VllmServer) -> None:
        self.folder, self.server = settings.path, server
        self.broadcast = Broadcast(server, settings.nccl_address) if settings.transfer == "nccl" else None
        self.state: WeightState | None = None
        self.version = ""
        self.adapter: str | None = None

    def ensure(self, model: PreTrainedModel | PeftModel) -> str:
        """See to it that the server holds the present weights.

        Args:
            model: the policy's; only the trained adapter of an adapted one is pushed.

        Returns:
            the name under which they are served.
        """
        is_adapted = hasattr(model, "peft_config")
        weights = dict(model.named_parameters())
        if is_adapted:
            weights = {name: weight for name, weight in weights.items() if f".{adapters.TRAINED}." in name}
        state = WeightState(torch.float32, weights.values(), adapter_state(model))
        if self.state is None or not self.state.equals(state):
            self.version = fingerprint(model, list(weights.values()))
            self.state, self.adapter = state, f"{ADAPTER}{self.version}" if is_adapted else None
        if not self.are_served():
            self._push(model)
        return self.adapter if self.adapter is not None else str(self.server.models()[0]["id"])

    def are_served(self) -> bool:
        """True if the server holds the weights that ``ensure`` saw last."""
        if self.adapter is not None:
            return self.adapter in {found["id"] for found in self.server.models()}
        return self.server.weight_version() == self.version

    def _push(self, model: PreTrainedModel | PeftModel) -> None:
        """Push, one process at a time, unless another one has; then delete what was pushed before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "push.lock"):
            if self.are_served():
                return
            if self.adapter is not None:
                self.server.load_adapter(self.adapter, str(self._written(model)))
            elif self.broadcast is not None:
                with self.server.replacing(self.version):
                    self.broadcast.send(model)
            else:
                folder = str(self._written(model))
                with self.server.replacing(self.version):
                    self.server.reload(folder)
            for other in self._other_versions():
                if self.adapter is not None:
                    self.server.unload_adapter(f"{ADAPTER}{other.name}")
                shutil.rmtree(other, ignore_errors=True)

    def _other_versions(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_dir() and path.name != self.version]

    def _written(self, model: PreTrainedModel | PeftModel) -> Path:
        """The folder of the present version, whole or not there."""
        folder = self.folder / self.version
        if not folder.is_dir():
            unfinished = self.folder / f"unfinished-{self.version}"
            shutil.rmtree(unfinished, ignore_errors=True)
            chosen = {} if self.adapter is None else {"selected_adapters": [adapters.TRAINED], **WITHOUT_EMBEDDINGS}
            with without_progress_bar():
                model.save_pretrained(str(unfinished), **chosen)
            export.obey_umask(unfinished)
            unfinished.rename(folder)
        return folder


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Inside, transformers draws no bars: one a push would be too many."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def fingerprint(model: nn.Module, weights: Sequence[Tensor]) -> str:
    """A short name that depends on all values of the weights, by sums that any process computes alike.

    Args:
        model: its adapters' scales count as well.
        weights: of any shape.
    """
    sums = []
    for weight in weights:
        flat = weight.detach().reshape(-1)
        wide = torch.float32 if flat.device.type == "mps" else torch.float64
        sums += [flat[::stride].sum(dtype=wide) for stride in STRIDES]
    content = torch.stack(sums).cpu().numpy().tobytes() + repr(adapter_state(model)).encode()
    return hashlib.blake2b(content, digest_size=8).hexdigest()
