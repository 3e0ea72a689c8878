"""Each rank sees that the others live, and says which one is lost instead of waiting for it for ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.stop_requests import tell

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

FOLDER = ".ranks"
BEAT_SECONDS = 1.0
STOPPED_SECONDS = 10.0
SILENT_SECONDS = 45.0
GRACE_SECONDS = 5.0
CLOSING_SECONDS = 10.0


@dataclass
class Peer:
    """What is known of another rank.

    Args:
        rank: its number.
        pid: its process.
        host: its machine.
        beat: the last number that it wrote.
        heard: when that changed, on this machine's clock.
        stopped_since: when its process was first seen stopped.
        lost_since: when it was first seen to have ended.
    """

    rank: int
    pid: int = 0
    host: str = ""
    beat: int = -1
    heard: float = field(default_factory=time.monotonic)
    stopped_since: float | None = None
    lost_since: float | None = None

    @property
    def name(self) -> str:
        """Rank, process and machine."""
        return f"rank {self.rank} (process {self.pid} on {self.host})"


def process_state(pid: int) -> str:
    """``running``, ``stopped`` or ``ended``."""
    import psutil

    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "ended"
    except psutil.Error:
        return "running"
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return "ended"
    return "stopped" if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "running"


class RankWatch:
    """A thread that writes a sign of life once a second, and reads those of the other ranks.

    The signs are files in the run folder; a rank on a machine that does not share it is not watched. A long step is no
    silence: the thread goes on beside it.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.host = socket.gethostname()
        self.peers: list[Peer] = []
        self.lost: str | None = None
        self._trainer: Trainer | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, trainer: Trainer) -> None:
        """Begin, once, where there are several ranks."""
        if trainer.world_size < 2 or self._thread is not None:
            return
        self._trainer, self.rank = trainer, trainer.global_rank
        self.peers = [Peer(rank) for rank in range(trainer.world_size) if rank != self.rank]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(0)
        self._thread = threading.Thread(target=self._run, name="rank watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Say that this rank ends as it should."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join(timeout=2 * BEAT_SECONDS)
            self._write(-1)

    def _path(self, rank: int) -> Path:
        return self.folder / f"{rank}.json"

    def _write(self, beat: int) -> None:
        partial = self._path(self.rank).with_suffix(f".{os.getpid()}.partial")
        with suppress(OSError):
            partial.write_text(json.dumps({"pid": os.getpid(), "host": self.host, "beat": beat}))
            os.replace(partial, self._path(self.rank))

    def _run(self) -> None:
        beat = 0
        while not self._ended.wait(BEAT_SECONDS):
            beat += 1
            self._write(beat)
            reasons = [reason for peer in self.peers if (reason := self.look_at(peer)) is not None]
            if reasons:
                self._give_up(reasons[0])
                return

    def look_at(self, peer: Peer) -> str | None:
        """Why a rank is lost; None while it lives, has ended as it should, or was never seen."""
        now = time.monotonic()
        try:
            sign: dict[str, Any] = json.loads(self._path(peer.rank).read_text())
        except (OSError, ValueError):
            return None
        if sign["pid"] == peer.pid and sign["beat"] == -1:
            return None
        if (sign["pid"], sign["beat"]) != (peer.pid, peer.beat):
            if sign["pid"] != peer.pid and peer.beat == -1 and sign["beat"] == -1:
                return None  # of an earlier run
            peer.pid, peer.host, peer.beat, peer.heard = sign["pid"], sign["host"], sign["beat"], now
        state = process_state(peer.pid) if peer.host == self.host else "running"
        peer.stopped_since = (peer.stopped_since or now) if state == "stopped" else None
        peer.lost_since = (peer.lost_since or now) if state == "ended" else None
        if peer.lost_since is not None and now - peer.lost_since >= GRACE_SECONDS:
            return f"{peer.name} has ended (killed, or by an error of its own)"
        if peer.stopped_since is not None and now - peer.stopped_since >= STOPPED_SECONDS:
            return f"{peer.name} was stopped (SIGSTOP) {now - peer.stopped_since:.0f} s ago"
        if now - peer.heard >= SILENT_SECONDS:
            return f"{peer.name} has given no sign of life for {now - peer.heard:.0f} s"
        return None

    def reason(self) -> str | None:
        """Which rank is gone, for an error that its end caused here; waits a moment to see it."""
        deadline = time.monotonic() + 3.0
        while self._thread is not None and time.monotonic() < deadline:
            for peer in self.peers:
                if peer.host == self.host and peer.pid and process_state(peer.pid) == "ended":
                    return f"{peer.name} has ended (killed, or by an error of its own)"
            time.sleep(0.2)
        return None

    def _give_up(self, reason: str) -> None:
        """End this process, and what is stopped on this machine: a collective that waits cannot be interrupted."""
        self.lost = reason
        tell(f"{reason}: rank {self.rank} ends as well, since no step can be taken without it. {self.remedy()}")
        for peer in self.peers:
            if peer.host == self.host and peer.stopped_since is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(peer.pid, signal.SIGKILL)
        closing = threading.Thread(target=self._close_loggers, daemon=True)
        closing.start()
        closing.join(timeout=CLOSING_SECONDS)
        os._exit(1)

    def _close_loggers(self) -> None:
        assert self._trainer is not None
        for logger in self._trainer.loggers:
            with suppress(Exception):
                logger.finalize("failed")

    def remedy(self) -> str:
        """Where to go on."""
        last = self.folder.parent / "checkpoints" / "last.ckpt"
        if last.exists():
            return f"Go on from {last} by the same command with --if_exists resume"
        return "No checkpoint was saved yet: start the same command again with --if_exists resume"
