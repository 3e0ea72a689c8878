"""Callbacks find the run folder, write into it and hand files to the loggers by these functions."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed

from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_gfn.types import EvalRecord

ResultRow = dict[str, Any]


def run_folder(trainer: Trainer) -> Path:
    """The folder that holds everything of this run."""
    return Path(trainer.default_root_dir)


def where_it_lies(folder: Path, stage: str) -> str:
    """Where the figures of an evaluation are, and what to do with them.

    Args:
        folder: of the run.
        stage: ``val`` or ``test``.
    """
    shown = os.path.relpath(folder) if folder.resolve().is_relative_to(Path.cwd()) else str(folder)
    told = f"[lightning-gfn] written: {shown}/results/{stage}_metrics.json and, by problem, {stage}_problems.jsonl"
    return f"{told}; beside other runs: lightning-gfn compare {shown} OTHER_RUN" if stage == "test" else told


def to_json(value: Any) -> Any:
    """The same data in JSON's types; NaN and infinities, which JSON lacks, become None."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def json_line(row: Mapping[str, Any]) -> str:
    """One row as a line of JSON, newline included."""
    return json.dumps(to_json(row), ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Write one JSON object, indented."""
    return replace_text(path, json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line."""
    return replace_text(path, "".join(json_line(row) for row in rows))


def send_artifact(trainer: Trainer, path: Path, artifact_path: str | None = None) -> None:
    """Give a file to every logger that keeps files, known by its method ``log_artifact_file(path, artifact_path)``."""
    for logger in trainer.loggers:
        log_file = getattr(logger, "log_artifact_file", None)
        if log_file is not None:
            log_file(path, artifact_path)


def gather_rows(trainer: Trainer, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """The rows of all ranks, rank by rank; every rank gets the same list."""
    if trainer.world_size == 1:
        return list(rows)
    gathered: list[list[ResultRow]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(gathered, list(rows))
    return [row for part in gathered for row in part]


def records_of(outputs: Any, hook: str) -> list[EvalRecord]:
    """The step's outputs, checked to be evaluation records.

    Raises:
        TypeError: the module's step returned something else.
    """
    from lightning_gfn.types import EvalRecord

    if not isinstance(outputs, list) or not all(isinstance(record, EvalRecord) for record in outputs):
        raise TypeError(f"{hook} must return list[EvalRecord] for this callback, got {type(outputs).__name__}")
    return outputs
