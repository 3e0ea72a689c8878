"""Bring an MLflow run up to its run folder: the disk is the truth, and what MLflow has already is not sent again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_gfn.sharding.checkpoint_folder import read_rest, read_whole
from lightning_gfn.tracking.disk_logger import DiskLogger, belongs_before
from lightning_gfn.tracking.keys import clean_metric_key
from lightning_gfn.tracking.mirror.delivery import PARAMS_PER_CALL
from lightning_gfn.tracking.mirror.points import (
    NOTE,
    Point,
    Row,
    headline,
    kept_files,
    milliseconds,
    missing_files,
    points,
    points_of_run,
    send_files,
    send_points,
)
from lightning_gfn.tracking.mlflow_logger import MLflowLogger
from lightning_gfn.tracking.mlflow_store import (
    chunks,
    cut,
    flatten_params,
    new_params,
    open_store,
    prepare_mlflow,
    sqlite_file,
)
from lightning_gfn.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SET_ASIDE = re.compile(r".*\.old-\d+")


@dataclass(frozen=True)
class Missing:
    """What an MLflow run lacks of its run folder.

    Args:
        figures: points of metrics.
        params: parameters by name.
        tags: tags by name.
        files: each file with its folder among the artifacts.
        status: the status that the run ended with, if MLflow has another one.
        held_back: rows that no checkpoint covers: the run repeats them when it goes on.
        surplus: figures that MLflow has and the disk has not.
    """

    figures: Sequence[Point]
    params: dict[str, str]
    tags: dict[str, str]
    files: Sequence[tuple[Path, str | None]]
    status: str | None
    held_back: int
    surplus: int

    def __bool__(self) -> bool:
        return bool(self.figures or self.params or self.tags or self.files or self.status)


def run_folders(path: Path) -> list[Path]:
    """The run folders at and below a path, without those that were set aside.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [file.parent for file in sorted(path.rglob("run.json")) if (file.parent / "config.yaml").is_file()]
    found = [one for one in found if not any(SET_ASIDE.fullmatch(part) for part in one.relative_to(path).parts)]
    if not found:
        raise FileNotFoundError(f"{path} holds no run: name a run folder (it holds run.json), or a folder of such")
    return found


def covered_rows(folder: RunFolder) -> tuple[list[Row], list[Row]]:
    """The rows on disk that are final, and those that the run repeats when it goes on from its last checkpoint.

    Args:
        folder: the run folder.
    """
    rows = DiskLogger(folder.path).rows()
    if folder.read().get("mlflow_status") == "FINISHED":
        return rows, []
    step = 0
    if folder.last_checkpoint.exists():
        last = folder.last_checkpoint
        content = read_rest(last) if last.is_dir() else read_whole(last)
        step = int(content.get("rows", {}).get("step", content["global_step"]))
    final = [row for row in rows if belongs_before(row, step)]
    return final, [row for row in rows if not belongs_before(row, step)]


class RunSync:
    """Compares one run folder with its MLflow run, and sends what is missing.

    Args:
        path: the run folder.
        tracking_uri: MLflow store or server; if None the one that the run began with or that its YAML names, else the
            environment variable MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db``.
    """

    def __init__(self, path: Path, tracking_uri: str | None = None) -> None:
        self.folder = RunFolder(path)
        self.config = yaml.safe_load(self.folder.config_file.read_text(encoding="utf-8"))
        given: dict[str, Any] = {**(self.config.get("mlflow") or {}), "run_dir": str(path)}
        if tracking_uri is not None:
            given["tracking_uri"] = tracking_uri
        self.disk = DiskLogger(path)
        self.logger = MLflowLogger(**given)
        self.logger.follow(self.disk)
        self.uri = self.logger.tracking_uri
        self.client: MlflowClient | None = None
        self.run: Run | None = None

    def compare(self) -> Missing:
        """Find what is missing; changes nothing in a store that exists."""
        prepare_mlflow(self.uri)
        file = sqlite_file(self.uri)
        if file is None or file.is_file():
            self.client = open_store(self.uri)
            self.run = self.logger.find_run(self.client, self.uri)
        rows, later = covered_rows(self.folder)
        known = self.folder.read()
        params = flatten_params(self.config)
        tags = {clean_metric_key(key): cut(value) for key, value in known.get("tags", {}).items()}
        if note := headline(rows):
            tags[NOTE] = note
        status = known.get("mlflow_status")
        status = status if status in ("FINISHED", "FAILED") else None
        figures, surplus = points(rows), 0
        if self.client is None or self.run is None:
            files = [(path, path.relative_to(self.folder.path)) for path in kept_files(self.folder.path)]
            places = [(path, name.parent.as_posix() if name.parent.parts else None) for path, name in files]
            return Missing(in_order(figures), params, tags, places, status, len(later), 0)
        run_id, data = self.run.info.run_id, self.run.data
        there = set(points_of_run(self.client, run_id))
        surplus = len(there - figures - points(later))
        return Missing(
            in_order(figures - there),
            new_params(params, data.params, int(data.tags.get("resumes", 0))),
            {key: value for key, value in tags.items() if data.tags.get(key) != value},
            missing_files(self.client, run_id, self.folder.path),
            status if status != self.run.info.status else None,
            len(later),
            surplus,
        )

    def send(self, missing: Missing) -> str:
        """Send it; returns the id of the MLflow run, which is made if there is none."""
        from mlflow.entities import Param, RunTag

        client = self.client if self.client is not None else open_store(self.uri)
        run_id = self.run.info.run_id if self.run is not None else self.logger.create_run(client, self.uri)
        for part in chunks([Param(key, value) for key, value in missing.params.items()], PARAMS_PER_CALL):
            client.log_batch(run_id, params=part)
        for part in chunks([RunTag(key, value) for key, value in missing.tags.items()], PARAMS_PER_CALL):
            client.log_batch(run_id, tags=part)
        send_points(client, run_id, missing.figures)
        send_files(client, run_id, missing.files)
        if missing.status is not None:
            rows = self.disk.rows()
            client.set_terminated(run_id, missing.status, milliseconds(rows[-1]) if rows else None)
        return str(run_id)

    def forget(self) -> None:
        """Delete the MLflow run (MLflow keeps it in its bin), so that sending makes a new one."""
        if self.client is not None and self.run is not None:
            self.client.delete_run(self.run.info.run_id)
            self.run = None


def in_order(figures: set[Point]) -> list[Point]:
    """Points by time, step and key."""
    return sorted(figures, key=lambda point: (point[3], point[1], point[0]))
