"""Dealings with an MLflow store: opening it, naming things the way it accepts, and telling its errors apart."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.tracking.keys import clean_metric_key

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
MAX_VALUE = 500
MAX_KEY = 250
TRANSIENT = {
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL_ERROR",
    "REQUEST_LIMIT_EXCEEDED",
    "TEMPORARILY_UNAVAILABLE",
}


def cut(value: Any) -> str:
    """A value as text of at most 500 characters."""
    text = str(value)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """The items in groups of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def flatten_params(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings, and lists that hold mappings, as flat dotted names with text values."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, Mapping) and (value or not prefix):
        return {
            name: text
            for key, item in value.items()
            for name, text in flatten_params(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {clean_metric_key(prefix)[:MAX_KEY]: cut(value)}


def new_params(params: Mapping[str, str], known: Mapping[str, str], resumes: int) -> dict[str, str]:
    """What must be logged beside the known parameters, which MLflow never changes: a new value of a known one becomes
    ``<name>.resumed<n>``, n counting the resumes of the run."""
    new = {}
    for key, value in params.items():
        names = [key, *(f"{key}.resumed{number}" for number in range(1, resumes + 1))]
        latest = next((known[name] for name in reversed(names) if name in known), None)
        if latest is None:
            new[key] = value
        elif latest != value:
            new[f"{key[: MAX_KEY - 15]}.resumed{max(1, resumes)}"] = value
    return new


def absolute_uri(uri: str) -> str:
    """The URI with a relative SQLite file or folder made absolute, so that it holds in every working folder."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and uri != f"{prefix}:memory:":
        return prefix + str(Path(uri[len(prefix) :]).resolve())
    return uri if "://" in uri or uri.startswith(("file:", "databricks")) else Path(uri).resolve().as_uri()


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store."""
    return Path(uri[len("sqlite:///") :]) if uri.startswith("sqlite:///") else None


def prepare_mlflow(uri: str) -> None:
    """Import MLflow here and now (an import in a second thread can see half-made modules) and shorten its patience."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the delivery queue tries again itself
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    importlib.import_module("mlflow")
    if sqlite_file(uri) is not None:
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


def open_store(uri: str) -> MlflowClient:
    """A client; a SQLite store is made and migrated by one process at a time."""
    from mlflow import MlflowClient

    file = sqlite_file(uri)
    if file is None:
        return MlflowClient(tracking_uri=uri)
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
        return client


def find_experiment(client: MlflowClient, name: str, uri: str) -> str:
    """Id of the experiment, made if it does not exist; artifacts of a SQLite store lie beside its file."""
    from mlflow.exceptions import MlflowException

    file = sqlite_file(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, (file.parent / "mlruns").as_uri() if file is not None else None))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise ValueError(f"MLflow experiment {name!r} was deleted: restore it, or set another mlflow.experiment_name")
    return str(found.experiment_id)


def is_permanent(error: Exception) -> bool:
    """True if MLflow refused a record; False if it could not be reached or was busy."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code not in TRANSIENT
    return isinstance(error, (ValueError, TypeError, FileNotFoundError))
