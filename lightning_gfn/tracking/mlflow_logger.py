"""Figures, parameters and files of a run in MLflow, delivered in the background."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_gfn.tracking.background import DeliveryQueue
from lightning_gfn.tracking.disk_logger import DiskLogger, Row, belongs_before
from lightning_gfn.tracking.keys import clean_metric_key, clean_metrics
from lightning_gfn.tracking.mirror.delivery import Entry, RunDelivery
from lightning_gfn.tracking.mirror.points import (
    NOTE,
    figures,
    headline,
    milliseconds,
)
from lightning_gfn.tracking.mlflow_store import (
    DEFAULT_URI,
    absolute_uri,
    cut,
    flatten_params,
    is_permanent,
    prepare_mlflow,
)
from lightning_gfn.tracking.run_folder import RunFolder

LOG = logging.getLogger(__name__)


class MLflowLogger(RunDelivery, Logger):
    """Logs to MLflow and never holds up training: a server that is slow, down or full costs no step.

    Calls are queued and delivered by a thread; while the server cannot be reached they are tried again, and every
    figure is on disk all the same. The MLflow run's id is kept in ``run.json``: a resumed run goes on where it was.

    A logger that follows the figures on disk is their mirror: it sends a training row, under the time that it has on
    disk, once a checkpoint covers it. MLflow cannot forget a figure, and a killed run repeats what no checkpoint
    covers. When a run goes on, what the server lacks is sent first.

    Args:
        experiment_name: MLflow experiment.
        run_name: name of the MLflow run; the name of the run folder if None.
        tracking_uri: MLflow store or server; if None the one that the run began with, else the environment variable
            MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db`` in the working folder.
        tags: further tags of the run.
        flush_seconds: how long to wait at the end for records on their way.
        run_dir: the run folder; None keeps no record of the run's id.
    """

    def __init__(
        self,
        *,
        experiment_name: str = "lightning-gfn",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: dict[str, str] | None = None,
        flush_seconds: float = 20.0,
        run_dir: str | None = None,
    ) -> None:
        super().__init__()
        self.experiment_name = experiment_name
        self.folder = RunFolder(Path(run_dir)) if run_dir is not None else None
        self.run_name = run_name if run_name is not None else (self.folder.path.resolve().name if self.folder else None)
        self.requested_uri = absolute_uri(tracking_uri) if tracking_uri is not None else None
        self.default_uri = absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
        self.tags = dict(tags) if tags is not None else {}
        self.flush_seconds = flush_seconds
        self._held: list[Row] | None = None
        self._covered = self._to_cover = 0
        self._queue: DeliveryQueue[Entry] | None = None
        self._finished = False
        self._killed = False

    # ---------------------------------------------------------------- Lightning's interface

    @property
    def name(self) -> str:
        return self.experiment_name

    @property
    def version(self) -> str | None:
        return self.run_id

    @property
    def save_dir(self) -> str | None:
        return str(self.folder.path) if self.folder is not None else None

    @property
    def tracking_uri(self) -> str:
        """Where the run is tracked."""
        if self.requested_uri is not None:
            return self.requested_uri
        known = self.folder.read().get("mlflow", {}) if self.folder is not None else {}
        return str(known.get("tracking_uri", self.default_uri))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue the metrics of one step; a follower gets them from the disk."""
        if self._disk is not None:
            return
        self._put(
            Entry(
                metrics=clean_metrics(metrics), step=step if step is not None else 0, timestamp=int(time.time() * 1000)
            )
        )

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | argparse.Namespace, *args: Any, **kwargs: Any) -> None:
        """Queue parameters, flattened to dotted names; long values are cut (the configuration file is whole)."""
        values = vars(params) if isinstance(params, argparse.Namespace) else params
        self._put(Entry(params=flatten_params(values)))

    @rank_zero_only
    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Queue tags of the run."""
        self._put(Entry(tags={clean_metric_key(key): cut(value) for key, value in tags.items()}))

    @rank_zero_only
    def log_artifact_file(self, path: Path, artifact_path: str | None = None) -> None:
        """Queue a file; it is read when its turn comes."""
        self._put(Entry(file=Path(path), artifact_path=artifact_path))

    # ---------------------------------------------------------------- rows on disk

    def follow(self, disk: DiskLogger) -> None:
        """Log what a logger writes to disk, and nothing else."""
        self._disk = disk
        disk.followers.append(self._take_row)

    @rank_zero_only
    def hold_rows(self, hold: bool) -> None:
        """Hold rows back until a checkpoint covers them (training), or send them at once (anything else)."""
        if hold:
            self._held = []
            return
        self._send_rows(self._held or [])
        self._held = None
        if self._disk is not None and self.folder is not None and "mlflow" in self.folder.read():
            self._mirror_all()

    @rank_zero_only
    def resume_at(self, step: int, due: Row | None = None) -> None:
        """Send what the server lacks of the rows that a checkpoint covers."""
        self._covered = step
        if self._disk is not None and step:
            self._mirror_all()

    def will_cover(self, step: int) -> None:
        """Note that the checkpoint which is being written covers the rows before a step."""
        self._to_cover = step

    def release_rows(self) -> None:
        """Send the rows that the checkpoint covers which has just taken its place."""
        self._covered = self._to_cover
        held, self._held = self._held or [], []
        for row in held:
            self._take_row(row)

    def _take_row(self, row: Row) -> None:
        if self._held is None or belongs_before(row, self._covered):
            self._send_rows([row])
        else:
            self._held.append(row)

    def _send_rows(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._put(Entry(metrics=figures(row), step=row["step"] or 0, timestamp=milliseconds(row)))

    def _mirror_all(self) -> None:
        assert self._disk is not None
        held = self._held or []
        self._put(Entry(mirror=[row for row in self._disk.rows() if row not in held]))

    @rank_zero_only
    def killed(self) -> None:
        """From here on a failure is the end that a signal asked for."""
        self._killed = True

    def finalize(self, status: str) -> None:
        """Queue the final status and wait, for a limited time, until everything is delivered."""
        ended = "FINISHED" if status in ("success", "finished") else "KILLED" if self._killed else "FAILED"
        if self._held and ended == "FINISHED":
            self._send_rows(self._held)
            self._held = []
        if self._queue is None:
            return
        if self._disk is not None and (note := headline(self._disk.rows())):
            self._queue.put(Entry(tags={NOTE: note}))
        if self._queue.num_dropped and self._disk is not None:
            self._mirror_all()
        if self.folder is not None:
            self.folder.update(mlflow_status=ended)
        self._queue.put(Entry(status=ended))
        self._finished = True
        delivered = self._queue.flush(self.flush_seconds)
        missing = self._queue.pending() + self._queue.num_dropped
        if not delivered or self._queue.num_dropped:
            where, remedy = "", ""
            if self.folder is not None:
                where = f" ({self.folder.path / 'metrics.jsonl'})"
                remedy = f"; lightning-gfn sync {self.folder.path} sends what is missing"
            LOG.warning(
                "MLflow at %s: %d records were not delivered (%d failed calls); the figures on disk are complete%s%s",
                self.tracking_uri,
                missing,
                self._queue.num_failures,
                where,
                remedy,
            )

    # ---------------------------------------------------------------- delivery

    def _put(self, entry: Entry) -> None:
        if self._queue is None:
            prepare_mlflow(self.tracking_uri)
            if self.folder is not None:
                self.folder.update(mlflow_status="RUNNING")
            self._queue = DeliveryQueue(self._deliver, is_permanent=is_permanent, on_failure=self._warn)
        if self._finished:
            self._finished = False
            if self.folder is not None:
                self.folder.update(mlflow_status="RUNNING")
            self._queue.put(Entry(status="RUNNING"))
        self._queue.put(entry)

    def _warn(self, error: Exception, permanent: bool) -> None:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        what = "refused a record, which is left out" if permanent else "cannot be reached, it is tried again meanwhile"
        LOG.warning("MLflow at %s %s (%s)", self.tracking_uri, what, text[:300])
