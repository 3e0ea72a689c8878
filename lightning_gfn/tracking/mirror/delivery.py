"""What is sent to the MLflow run of a folder, and how that run is found or made."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.tracking.disk_logger import DiskLogger, Row
from lightning_gfn.tracking.mirror.points import (
    METRICS_PER_CALL,
    milliseconds,
    missing_files,
    missing_points,
    send_files,
    send_points,
)
from lightning_gfn.tracking.mlflow_store import chunks, find_experiment, new_params, open_store
from lightning_gfn.tracking.provenance import source_state, versions
from lightning_gfn.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOG = logging.getLogger(__name__)
PARAMS_PER_CALL = 100


@dataclass(frozen=True)
class Entry:
    """Something to deliver: metrics of a step, parameters, tags, a file or a status.

    Args:
        metrics: values by key.
        step: optimiser step of the metrics.
        timestamp: milliseconds since 1970.
        params: flat parameters.
        tags: flat tags.
        file: file to store.
        artifact_path: folder of the file among the artifacts.
        status: new status of the run.
        mirror: rows on disk, of which the server may lack some.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    timestamp: int = 0
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    artifact_path: str | None = None
    status: str | None = None
    mirror: Sequence[Row] | None = None


class RunDelivery:
    """Sends entries to the MLflow run of a folder, which is looked up or made at the first one.

    The command line reads the arguments of ``MLflowLogger`` without importing MLflow; hence what needs its types is
    here.
    """

    folder: RunFolder | None
    experiment_name: str
    run_name: str | None
    tags: dict[str, str]
    run_id: str | None = None
    resumes: int = 0
    _disk: DiskLogger | None = None
    _client: MlflowClient | None = None

    @property
    def tracking_uri(self) -> str:
        """Where the run is tracked."""
        raise NotImplementedError

    def _deliver(self, entries: list[Entry]) -> None:
        """Runs in the delivery thread."""
        from mlflow.entities import Metric

        client, run_id = self._connect()
        metrics: list[Metric] = []
        for entry in [*entries, Entry()]:
            metrics += [Metric(key, float(value), entry.timestamp, entry.step) for key, value in entry.metrics.items()]
            if entry.metrics:
                continue
            for part in chunks(metrics, METRICS_PER_CALL):
                client.log_batch(run_id, metrics=part)
            metrics = []
            self._send(client, run_id, entry)

    def _send(self, client: MlflowClient, run_id: str, entry: Entry) -> None:
        from mlflow.entities import Param, RunTag

        if entry.params:
            known = client.get_run(run_id).data.params
            params = [Param(key, value) for key, value in new_params(entry.params, known, self.resumes).items()]
            for part in chunks(params, PARAMS_PER_CALL):
                client.log_batch(run_id, params=part)
        for part in chunks([RunTag(key, value) for key, value in entry.tags.items()], PARAMS_PER_CALL):
            client.log_batch(run_id, tags=part)
        if entry.mirror is not None:
            send_points(client, run_id, missing_points(client, run_id, entry.mirror))
            if self.folder is not None:
                send_files(client, run_id, missing_files(client, run_id, self.folder.path))
        if entry.file is not None:
            client.log_artifact(run_id, str(entry.file), entry.artifact_path)
        if entry.status == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        elif entry.status is not None:
            client.set_terminated(run_id, entry.status)

    def _connect(self) -> tuple[MlflowClient, str]:
        """Client and run; the run is looked up or made at the first call."""
        if self._client is None or self.run_id is None:
            uri = self.tracking_uri
            client = open_store(uri)
            self.run_id = self._resume_run(client, uri) or self.create_run(client, uri)
            self._client = client
        return self._client, self.run_id

    def _resume_run(self, client: MlflowClient, uri: str) -> str | None:
        """The run named in ``run.json``, set running again; None if there is none in this store."""
        run = self.find_run(client, uri)
        if run is None:
            return None
        self.resumes = int(run.data.tags.get("resumes", 0)) + 1
        client.set_tag(run.info.run_id, "resumes", str(self.resumes))
        client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)

    def find_run(self, client: MlflowClient, uri: str) -> Run | None:
        """The run named in ``run.json``; None, with a warning, if it is not in this store any more."""
        from mlflow.exceptions import MlflowException

        known = self.folder.read().get("mlflow") if self.folder is not None else None
        if not known:
            return None
        if known["tracking_uri"] != uri:
            LOG.warning("the run was tracked at %s: a new MLflow run is made at %s", known["tracking_uri"], uri)
            return None
        try:
            run = client.get_run(known["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run = None
        if run is None or run.info.lifecycle_stage != "active":
            LOG.warning("MLflow run %s is gone from %s: a new one is made", known["run_id"], uri)
            return None
        return run

    def create_run(self, client: MlflowClient, uri: str) -> str:
        """Make a run and note its id in ``run.json``."""
        tags = origin(self.folder.read() if self.folder is not None else {})
        experiment = find_experiment(client, self.experiment_name, uri)
        made = None
        if self.folder is not None:
            tags["run_dir"] = str(self.folder.path)
            key = tags["run_key"] = self.folder.read().get("run_key") or uuid.uuid4().hex
            self.folder.update(run_key=key)
            known_id = self.folder.read().get("mlflow", {}).get("run_id")
            found = client.search_runs([experiment], f"tags.run_key = '{key}'", max_results=1)
            made = next((run for run in found if run.info.run_id != known_id), None)
        if made is None:  # a kill, or an answer that was lost, can leave one that is not in run.json yet
            rows = self._disk.rows() if self._disk is not None else []
            start = milliseconds(rows[0]) if rows else None
            made = client.create_run(experiment, start, tags={**tags, **self.tags}, run_name=self.run_name)
        run_id = str(made.info.run_id)
        if self.folder is not None:
            self.folder.update(mlflow={"run_id": run_id, "tracking_uri": uri, "experiment_name": self.experiment_name})
        return run_id


def origin(record: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say what made a run: command, code and versions as ``run.json`` has them, or else those of now.

    Args:
        record: the content of ``run.json``.
    """
    state = source_state() if "created" not in record else None
    revision = record.get("git_revision", state.revision if state is not None else None)
    dirty = record.get("git_dirty", state.dirty if state is not None else None)
    commands = [entry["command"] for entry in record.get("commands", [])] or sys.argv[1:2]
    tags = {f"version.{name}": version for name, version in record.get("versions", versions()).items()}
    if revision is not None:
        tags |= {"mlflow.source.git.commit": revision, "git_dirty": str(dirty).lower()}
    return {**tags, "mlflow.source.name": " ".join(["lightning-gfn", *commands[:1]]), "mlflow.source.type": "LOCAL"}
