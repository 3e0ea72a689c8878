"""Starts and steers tests/helpers/vllm_server.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

SCRIPT = Path(__file__).with_name("vllm_server.py")


class ServerProcess:
    """The server as a process.

    Args:
        folder: of the model that it serves.
        port: 0 for a free one.
    """

    def __init__(self, folder: str, port: int = 0) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), folder, str(port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "the server did not start"
        self.port = int(self.url.rpartition(":")[2])

    def start_anew(self, folder: str, **flags: Any) -> None:
        """As after a restart with another model and other flags."""
        self.set(model=folder, **flags)

    def set(self, **flags: Any) -> dict[str, Any]:
        """Change flags; see ``FakeVllm``. Returns what it has seen since it was started anew."""
        request = Request(f"{self.url}/_test", json.dumps(flags).encode(), method="POST")
        with urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    def counts(self) -> dict[str, int]:
        """How often each route was asked."""
        return self.set()["counts"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
