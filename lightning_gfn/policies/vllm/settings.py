"""Which vLLM server samples, and how it is asked."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class VllmSettings:
    """A vLLM server (0.28 or later) that samples in the place of our own decoder; docs/vllm.md says how to start it.

    Weights are pushed through a folder that trainer and server see under the same path, whenever they have changed.

    Args:
        url: of the server, without ``/v1``.
        folder: for the weights on their way; None for one in the temporary folder, for a server on the same machine.
        transfer: how whole weights get there: through the ``folder``, or broadcast to the server's GPUs (``nccl``; one
            training process, beside which the package vllm is installed). Adapters always take the folder.
        nccl_address: of this machine, as the server reaches it; None asks the system.
        key_variable: environment variable with the server's key; None if it asks for none.
        concurrency: requests at a time; a request holds all samples of one context.
        timeout_seconds: for one request.
        max_retries: further tries of a request after a broken connection or a status that says "later".
        backoff_seconds: before the first retry; doubled before each further one.
        max_mismatch: after each push the log-probabilities of some samples are compared with the policy's own; a mean
            difference above this, nats, ends the run: the server holds another model.

    Raises:
        ValueError: if a setting makes no sense.
    """

    url: str = "http://localhost:8000"
    folder: str | None = None
    transfer: Literal["folder", "nccl"] = "folder"
    nccl_address: str | None = None
    key_variable: str | None = None
    concurrency: int = 64
    timeout_seconds: float = 600.0
    max_retries: int = 6
    backoff_seconds: float = 1.0
    max_mismatch: float = 0.5

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"vllm.url is {self.url!r}, expected an address that begins with http:// or https://")
        if self.url.rstrip("/").endswith("/v1"):
            raise ValueError(f"vllm.url is {self.url!r}: leave out /v1")
        if self.transfer not in ("folder", "nccl"):
            raise ValueError(f"vllm.transfer is {self.transfer!r}, expected folder or nccl")
        for name, least in (("concurrency", 1), ("max_retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"vllm.{name} is {getattr(self, name)}, expected at least {least}")
        for name in ("timeout_seconds", "backoff_seconds", "max_mismatch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"vllm.{name} is {getattr(self, name)}, expected a positive number")
        if self.key_variable is not None and not os.environ.get(self.key_variable):
            raise ValueError(
                f"the environment variable {self.key_variable} is not set: put the server's key there, or set "
                "vllm.key_variable to null if it asks for none"
            )

    @property
    def path(self) -> Path:
        """The folder that weights are written to, absolute."""
        if self.folder is not None:
            return Path(self.folder).expanduser().resolve()
        name = hashlib.blake2b(self.url.rstrip("/").encode(), digest_size=6).hexdigest()
        return Path(tempfile.gettempdir()).resolve() / f"lightning-gfn-vllm-{name}"
