"""The run folder: where everything of one run lies, who may write into it, and from which checkpoint a run goes on."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lightning_gfn.tracking.provenance import source_state, versions
from lightning_gfn.whole_files import replace_text

IfExists = Literal["error", "resume", "fresh"]
OF_A_FAILED_START = frozenset({"config.yaml", "run.json", "error.txt"})
_WRITING = threading.Lock()


class RunFolderError(ValueError):
    """A command that the state of the run folder does not allow; the message says what to do instead."""


@dataclass(frozen=True)
class Start:
    """The start of a fit: afresh, resumed, or with an old folder moved aside.

    Args:
        checkpoint: the checkpoint to go on from; None starts from the model as configured.
        set_aside: True if the present folder must be moved away first.
    """

    checkpoint: Path | None = None
    set_aside: bool = False


@dataclass(frozen=True)
class RunFolder:
    """One fixed folder per run.

    ::

        config.yaml  run.json  error.txt  metrics.csv  metrics.jsonl  budget.json  warnings.txt
        checkpoints/{last,best}.ckpt  samples/  results/  predictions/  model/

    Args:
        path: the folder; it need not exist.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The whole configuration of the fit."""
        return self.path / "config.yaml"

    @property
    def run_file(self) -> Path:
        """Identity: MLflow run, code revision, versions, times."""
        return self.path / "run.json"

    @property
    def error_file(self) -> Path:
        """The traceback of the command that failed last."""
        return self.path / "error.txt"

    @property
    def last_checkpoint(self) -> Path:
        """The newest complete state of training."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The state at the best value of the monitored metric."""
        return self.path / "checkpoints" / "best.ckpt"

    def is_used(self) -> bool:
        """True if anything lies in the folder but what a run leaves that failed before its first step."""
        return self.path.is_dir() and any(path.name not in OF_A_FAILED_START for path in self.path.iterdir())

    def plan_fit(self, if_exists: IfExists, ckpt_path: str | None) -> Start:
        """Decide how a fit begins; changes nothing.

        Args:
            if_exists: what to do with a folder that is in use.
            ckpt_path: ``last``, ``best``, a path, ``none``, or None if the user said nothing.

        Raises:
            RunFolderError: the folder is in use and nothing was decided, or the checkpoint does not exist.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"run_dir {self.path} is a file: choose another --run_dir")
        named = ckpt_path if ckpt_path is not None and ckpt_path.lower() != "none" else None
        if if_exists == "fresh":
            if named in ("last", "best"):
                raise RunFolderError(f"--if_exists fresh and --ckpt_path {named} contradict each other: leave one out")
            return Start(self.existing(named) if named is not None else None, set_aside=self.is_used())
        if named is not None:
            checkpoint = self.existing(named)
            inside = checkpoint.resolve().is_relative_to(self.path.resolve())
            if self.is_used() and if_exists == "error" and not inside:
                raise self.undecided()
            return Start(checkpoint)
        if not self.is_used():
            return Start()
        if if_exists == "error":
            raise self.undecided()
        keep = self.last_checkpoint.exists() and ckpt_path is None
        return Start(self.last_checkpoint if keep else None)

    def undecided(self) -> RunFolderError:
        """The error for a folder in use."""
        return RunFolderError(
            f"run_dir {self.path} already holds a run. Go on with it: --if_exists resume (or --ckpt_path last). "
            "Start again: --if_exists fresh (the old folder is kept under another name). Or choose another --run_dir."
        )

    def existing(self, ckpt_path: str) -> Path:
        """The file or folder of a checkpoint given as ``last``, ``best`` or a path.

        Raises:
            RunFolderError: there is none; a run must never start over in silence.
        """
        if ckpt_path == "last":
            path, remedy = self.last_checkpoint, "fit has not saved one there; check --run_dir"
        elif ckpt_path == "best":
            path, remedy = self.best_checkpoint, "set checkpoint.monitor to a validation metric when fitting"
        else:
            path, remedy = Path(ckpt_path), "check --ckpt_path (last, best, none or a path)"
        if not path.exists():
            raise RunFolderError(f"checkpoint {path} does not exist: {remedy}")
        return path

    def plan_evaluation(self, ckpt_path: str | None) -> Path | None:
        """The checkpoint to evaluate: as named; if nothing was named the last one, or None if the folder has none.

        Raises:
            RunFolderError: a named checkpoint does not exist.
        """
        if ckpt_path is None:
            return self.last_checkpoint if self.last_checkpoint.exists() else None
        return None if ckpt_path.lower() == "none" else self.existing(ckpt_path)

    def set_aside(self) -> Path:
        """Rename the folder to ``<name>.old-N`` and return the new name."""
        number = 1
        while (target := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        return self.path.rename(target)

    def read(self) -> dict[str, Any]:
        """Read ``run.json``; empty if there is none."""
        if not self.run_file.is_file():
            return {}
        try:
            return dict(json.loads(self.run_file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise RunFolderError(f"{self.run_file} is not a JSON object ({error}): restore it, or delete it") from error

    def update(self, **fields: Any) -> None:
        """Set fields of ``run.json``; a kill leaves the old file or the new one."""
        with _WRITING:
            replace_text(self.run_file, json.dumps({**self.read(), **fields}, indent=2) + "\n")

    def stamp(self, command: str, *, resumed_from: Path | None = None) -> None:
        """Record in ``run.json`` which code with which versions ran a command now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        state = source_state()
        entry = {
            "command": command,
            "time": now,
            "git_revision": state.revision if state is not None else None,
            "git_dirty": state.dirty if state is not None else None,
            "versions": versions(),
            "checkpoint": str(resumed_from) if resumed_from is not None else None,
        }
        known = self.read()
        first = {"created": now, **{name: entry[name] for name in ("git_revision", "git_dirty", "versions")}}
        self.update(**({} if "created" in known else first), commands=[*known.get("commands", []), entry])
