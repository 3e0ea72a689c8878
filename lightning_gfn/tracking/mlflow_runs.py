"""Bring evaluated runs of an MLflow experiment to disk, laid out as run folders."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.tracking.mlflow_store import DEFAULT_URI, absolute_uri, open_store, prepare_mlflow, sqlite_file
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CURVES = re.compile(r"budget/.+|train/solve_rate_on_policy|val/(?!.*_ci95_(low|high)).+")
PAGE = 1000


def download_runs(
    experiment: str, target: Path, *, uri: str | None = None, stage: str = "test", chosen: str = ""
) -> list[Path]:
    """Download results, budget, configuration and learning curves of every evaluated run of an experiment.

    Runs that were deleted or have no results of the stage are passed over. Each run gets the folder
    ``<target>/<experiment>/<run name>-<start of its id>``, made anew.

    Args:
        experiment: name of the MLflow experiment.
        target: folder to write to.
        uri: MLflow store or server; if None the environment variable MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db``.
        stage: ``test`` or ``val``.
        chosen: a filter expression of MLflow's ``search_runs``; all runs if empty.

    Returns:
        The run folders, in the order in which the runs began.

    Raises:
        FileNotFoundError: the store, the experiment or an evaluated run in it does not exist.
        ValueError: MLflow does not understand the filter.
    """
    store = absolute_uri(uri if uri is not None else os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    file = sqlite_file(store)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"MLflow store {file} does not exist: check --tracking_uri")
    prepare_mlflow(store)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = open_store(store)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        names = ", ".join(sorted(one.name for one in client.search_experiments(max_results=100)))
        raise FileNotFoundError(f"MLflow at {store} has no experiment {experiment!r}; it has {names}")
    runs = search(client, found.experiment_id, chosen)
    if chosen and not runs:
        raise FileNotFoundError(f"no run of MLflow experiment {experiment!r} at {store} fits --filter {chosen!r}")
    folders = [folder for run in runs if (folder := fetch(client, run, target / plain_name(experiment), stage))]
    if not folders:
        raise FileNotFoundError(
            f"no run of MLflow experiment {experiment!r} at {store} has results/{stage}_metrics.json: evaluate them "
            f"first (lightning-gfn {'validate' if stage == 'val' else stage})"
        )
    return folders


def search(client: MlflowClient, experiment_id: str, chosen: str) -> list[Run]:
    """All runs of an experiment that a filter finds, in the order in which they began.

    Args:
        client: of the store.
        experiment_id: of the experiment.
        chosen: a filter expression; empty for all runs.

    Raises:
        ValueError: MLflow does not understand the filter.
    """
    from mlflow.exceptions import MlflowException

    runs: list[Run] = []
    token: str | None = None
    while True:
        try:
            page = client.search_runs(
                [experiment_id], chosen, order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token
            )
        except MlflowException as error:
            if not chosen or error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise ValueError(
                f"MLflow does not understand --filter {chosen!r}: {str(error).splitlines()[0]}\n"
                "Write it as in \"tags.method = 'subtb' and metrics.`test/solve_rate` > 0.5\"."
            ) from error
        runs += page
        token = page.token
        if not token:
            return runs


def plain_name(text: str) -> str:
    """A name that is safe as a folder."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "unnamed"


def fetch(client: MlflowClient, run: Run, target: Path, stage: str) -> Path | None:
    """The folder of one run; None if it has no results of the stage.

    Args:
        client: of the store.
        run: which one.
        target: folder of the downloads.
        stage: ``val`` or ``test``.
    """
    run_id = run.info.run_id
    names = {artifact.path for artifact in client.list_artifacts(run_id, "results")}
    if f"results/{stage}_metrics.json" not in names:
        return None
    folder = target / f"{plain_name(run.info.run_name or 'run')}-{run_id[:8]}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    top = {artifact.path for artifact in client.list_artifacts(run_id)}
    for name in ("results", *sorted(top & {"budget.json", "config.yaml"})):
        client.download_artifacts(run_id, name, str(folder))
    rows = metric_rows(client, run)
    replace_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def metric_rows(client: MlflowClient, run: Run) -> list[dict[str, Any]]:
    """The history of the figures that learning curves show, one row a step, in order of steps."""
    rows: dict[int, dict[str, Any]] = {}
    for key in filter(CURVES.fullmatch, run.data.metrics):
        for metric in client.get_metric_history(run.info.run_id, key):
            row = rows.setdefault(metric.step, {"step": metric.step, "time": metric.timestamp / 1000})
            row[key] = metric.value
    return [rows[step] for step in sorted(rows)]
