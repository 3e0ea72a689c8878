"""The process behind the embedded Lean: one JSON object a line each way, and an end to what takes too long."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lightning_gfn.lean_interfaces import BackendFault, BackendTimeout

FILES = Path(__file__).parent / "lean_files"
PREFIX = b"@@"
MAX_LINE = 16 << 20
POLL = 0.5
GIB = 1 << 30
# The shell raises the stack to what Lean's recursion needs, and keeps the process from writing files and core dumps.
SHELL = 'ulimit -c 0; ulimit -f 65536; ulimit -s "$(ulimit -H -s)"; exec "$@"'


def lean_command(node: Path, folder: Path, files: Path = FILES) -> list[str]:
    """The command that starts the embedded Lean; Node's permission model allows it to read files and nothing else.

    It ends when this process does.
    """
    readable = [f"--allow-fs-read={place.resolve()}" for place in (folder, files)]
    sandbox = ["--permission", *readable, "--allow-worker"]
    engine = ["--stack-size=60000", "--wasm-lazy-compilation"]
    return [
        "/bin/sh",
        "-c",
        SHELL,
        "lean",
        str(node),
        *sandbox,
        *engine,
        str(files / "driver.js"),
        str(folder),
        str(os.getpid()),
    ]


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it is unknown."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import psutil

        return int(psutil.Process(pid).memory_info().rss)
    except Exception:
        return 0


class LeanProcess:
    """One running server.

    Every request carries a number drawn at random, which the reply must repeat: what a proof might print is not taken
    for an answer.

    Args:
        command: program and arguments.
        start_timeout: seconds until it must be ready.
        max_resident_gib: it is killed above that.

    Raises:
        BackendFault: it ended while starting.
        BackendTimeout: it was not ready in time.
    """

    def __init__(self, command: Sequence[str], start_timeout: float, max_resident_gib: float) -> None:
        self.max_resident_gib = max_resident_gib
        self._buffer = bytearray()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, cwd="/",
            start_new_session=True,
        )  # fmt: skip
        os.set_blocking(self._input.fileno(), False)
        deadline = time.monotonic() + start_timeout
        while not self._line(deadline, start_timeout).get("ready"):
            pass

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    @property
    def resident(self) -> int:
        """Memory it holds, in bytes."""
        return resident_bytes(self._process.pid) if self.alive else 0

    def kill(self) -> None:
        """End it, now."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()
        self._process.wait()
        for stream in (self._input, self._output, self._errors):
            stream.close()

    def _ended(self) -> BackendFault:
        """Kill what is left, and say how it ended."""
        try:
            status: object = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            status = "unknown"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 1500))
        lines = [
            line
            for line in self._errors.read().decode("utf-8", "replace").splitlines()
            if line.strip() and "[DEBUG" not in line
        ]
        self.kill()
        return BackendFault(f"embedded Lean: the process ended (status {status}): {' | '.join(lines[-6:]) or 'silent'}")

    def _wait(self, deadline: float, seconds: float, write: bool) -> None:
        """Until the pipe can be used."""
        stream = self._input if write else self._output
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self.kill()
                raise BackendTimeout(f"embedded Lean: no answer within {seconds:.3g} s; the process was killed")
            wait = min(left, POLL)
            readable, writable, _ = select.select([] if write else [stream], [stream] if write else [], [], wait)
            if readable or writable:
                return
            if self.resident > self.max_resident_gib * GIB:
                self.kill()
                raise BackendFault(
                    f"embedded Lean: more than max_resident_gib={self.max_resident_gib:g} GiB; the process was killed"
                )

    def _send(self, line: bytes, deadline: float, seconds: float) -> None:
        view = memoryview(line)
        while view:
            self._wait(deadline, seconds, write=True)
            try:
                view = view[os.write(self._input.fileno(), view) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._ended() from None

    def _line(self, deadline: float, seconds: float) -> dict[str, Any]:
        """The next line that can be a reply."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                line, searched = bytes(self._buffer[:end]), 0
                del self._buffer[: end + 1]
                if line.startswith(PREFIX):
                    try:
                        reply = json.loads(line[len(PREFIX) :])
                    except ValueError:
                        continue
                    if isinstance(reply, dict):
                        return reply
                continue
            searched = len(self._buffer)
            if len(self._buffer) > MAX_LINE:
                self.kill()
                raise BackendFault(
                    f"embedded Lean: an answer of more than {MAX_LINE >> 20} MiB; the process was killed"
                )
            self._wait(deadline, seconds, write=False)
            chunk = os.read(self._output.fileno(), 1 << 16)
            if not chunk:
                raise self._ended()
            self._buffer += chunk

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            BackendTimeout: no reply in time.
            BackendFault: the process ended, grew too large, or reported a fault of its own.
        """
        deadline, number = time.monotonic() + seconds, secrets.token_hex(8)
        self._send(json.dumps({**request, "id": number}).encode() + b"\n", deadline, seconds)
        while True:
            reply = self._line(deadline, seconds)
            if reply.get("id") == number:
                break
        if "fault" in reply:
            self.kill()
            raise BackendFault(f"embedded Lean: {reply['fault']}; the process was killed")
        return reply
