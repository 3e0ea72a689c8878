"""What an MLflow run lacks of its run folder, and how it is sent: never twice, with the times on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.tracking.mlflow_store import chunks

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

Row = dict[str, Any]
Point = tuple[str, int, float, int]
METRICS_PER_CALL = 1000
NOTE = "mlflow.note.content"  # what MLflow shows as the description of a run
HEADLINE = re.compile(
    r"test/(?:solve_rate|(?:pass|maj)_at_\d+|distinct_correct(?:_rouge_0\.7|_proofs)?|solution_paths_found|"
    r"theorems_proved|social_welfare|rouge\w*|bleu\w*|gleu_4|bert_score_f1|label_accuracy|label_log_prob|"
    r"label_calibration_error)"
)
KEPT_FOLDERS = ("results", "samples", "predictions", "proofs")
PASSING = re.compile(r"\.partial$|^rank\d+\.jsonl$")
KEPT_FILES = ("config*.yaml", "budget.json", "warnings.txt")


def figures(row: Row) -> dict[str, float]:
    """The figures of a row that MLflow can hold."""
    return {key: float(value) for key, value in row.items() if key not in ("step", "time") and value is not None}


def milliseconds(row: Row) -> int:
    """When a row was logged, in milliseconds since 1970."""
    return round(row["time"] * 1000)


def headline(rows: Sequence[Row]) -> str:
    """The figures of the last test that a reader asks for first, as a Markdown table; empty without a test.

    Args:
        rows: on disk.
    """
    latest = {key: value for row in rows for key, value in figures(row).items() if HEADLINE.fullmatch(key)}
    lines = [f"| {key} | {value:.4g} |" for key, value in latest.items()]
    return "\n".join(["| figure | value |", "|---|---|", *lines]) if lines else ""


def points(rows: Sequence[Row]) -> set[Point]:
    """Every figure of the rows as key, step, value and time."""
    return {
        (key, int(row["step"] or 0), value, milliseconds(row)) for row in rows for key, value in figures(row).items()
    }


def points_of_run(client: MlflowClient, run_id: str) -> list[Point]:
    """Every figure that an MLflow run holds.

    Args:
        client: of the store.
        run_id: which run.
    """
    return [
        (key, metric.step, metric.value, metric.timestamp)
        for key in client.get_run(run_id).data.metrics
        for metric in client.get_metric_history(run_id, key)
    ]


def missing_points(client: MlflowClient, run_id: str, rows: Sequence[Row]) -> list[Point]:
    """The figures of the rows that an MLflow run lacks, in order of time.

    Args:
        client: of the store.
        run_id: which run.
        rows: on disk.
    """
    there = set(points_of_run(client, run_id))
    return sorted(points(rows) - there, key=lambda point: (point[3], point[1], point[0]))


def send_points(client: MlflowClient, run_id: str, missing: Sequence[Point]) -> None:
    """Send figures; the server takes one that it has already (an answer may have been lost) once.

    Args:
        client: of the store.
        run_id: which run.
        missing: the figures.
    """
    from mlflow.entities import Metric

    metrics: list[Metric] = [Metric(key, value, time, step) for key, step, value, time in missing]
    for part in chunks(metrics, METRICS_PER_CALL):
        client.log_batch(run_id, metrics=part)


def kept_files(folder: Path) -> list[Path]:
    """The files of a run folder that MLflow keeps as artifacts."""
    top = [path for pattern in KEPT_FILES for path in folder.glob(pattern)]
    below = [path for name in KEPT_FOLDERS for path in (folder / name).rglob("*")]
    return sorted(path for path in [*top, *below] if path.is_file() and not PASSING.search(path.name))


def sizes_of_artifacts(client: MlflowClient, run_id: str, below: str | None = None) -> Iterator[tuple[str, int]]:
    """Path and size of every artifact that a run keeps.

    Args:
        client: of the store.
        run_id: which run.
        below: a folder among the artifacts; all if None.
    """
    for found in client.list_artifacts(run_id, below):
        if found.is_dir:
            yield from sizes_of_artifacts(client, run_id, found.path)
        else:
            yield found.path, found.file_size


def missing_files(client: MlflowClient, run_id: str, folder: Path) -> list[tuple[Path, str | None]]:
    """The files that an MLflow run lacks or has in another size, each with its folder among the artifacts.

    Args:
        client: of the store.
        run_id: which run.
        folder: the run folder.
    """
    files = kept_files(folder)
    there = dict(sizes_of_artifacts(client, run_id)) if files else {}
    names = {path: path.relative_to(folder).as_posix() for path in files}
    return [
        (path, name.rpartition("/")[0] or None)
        for path, name in names.items()
        if there.get(name) != path.stat().st_size
    ]


def send_files(client: MlflowClient, run_id: str, missing: Sequence[tuple[Path, str | None]]) -> None:
    """Store files as artifacts.

    Args:
        client: of the store.
        run_id: which run.
        missing: each file with its folder among the artifacts.
    """
    for path, place in missing:
        client.log_artifact(run_id, str(path), place)
