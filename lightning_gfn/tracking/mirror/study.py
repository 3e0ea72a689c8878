"""A study in MLflow: one parent run that holds the comparison, with a child for each stage and what it builds on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.tracking.mirror.points import HEADLINE, NOTE, sizes_of_artifacts
from lightning_gfn.tracking.mlflow_store import absolute_uri, find_experiment, open_store, prepare_mlflow
from lightning_gfn.tracking.run_folder import RunFolder
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILE = "stages.json"


def write_stages(output: Path, stages: Mapping[str, Sequence[str]]) -> None:
    """Note the stages of a study beside their run folders.

    Args:
        output: folder of the study.
        stages: run folders, relative to it, each with those that it builds on.
    """
    known = read_stages(output)
    content = {
        "key": known.get("key", uuid.uuid4().hex),
        "stages": {name: list(needs) for name, needs in stages.items()},
    }
    replace_text(output / FILE, json.dumps(content, indent=2) + "\n")


def read_stages(output: Path) -> dict[str, Any]:
    """What ``write_stages`` noted; empty if the folder is no study's."""
    file = output / FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def send_study(output: Path, tracking_uri: str | None = None) -> int | None:
    """Make or complete the parent run of a study; doing it twice changes nothing.

    Args:
        output: folder of the study.
        tracking_uri: only stages tracked there; if None where the first tracked stage is.

    Returns:
        the number of its stages in MLflow; None if the folder is no study's or no stage is tracked.
    """
    study = read_stages(output)
    tracked = {name: RunFolder(output / name).read().get("mlflow") for name in study.get("stages", {})}
    uri = next((one["tracking_uri"] for one in tracked.values() if one), None)
    uri = absolute_uri(tracking_uri) if tracking_uri is not None else uri
    runs = {name: one for name, one in tracked.items() if one and one["tracking_uri"] == uri}
    if uri is None or not runs:
        return None
    prepare_mlflow(uri)
    client = open_store(uri)
    experiment = find_experiment(client, next(iter(runs.values()))["experiment_name"], uri)
    parent = parent_run(client, experiment, output, study["key"])
    figures: dict[str, dict[str, float]] = {}
    for name, one in runs.items():
        needs = [need for need in study["stages"][name] if need in runs]
        tags = {"mlflow.parentRunId": parent, "study": output.name}
        if needs:
            tags |= {"builds_on": ", ".join(needs), "builds_on_runs": ", ".join(runs[need]["run_id"] for need in needs)}
        data = client.get_run(one["run_id"]).data
        there, figures[name] = data.tags, data.metrics
        for key, value in tags.items():
            if there.get(key) != value:
                client.set_tag(one["run_id"], key, value)
    if note := stage_table(figures):
        client.set_tag(parent, NOTE, note)
    sizes = dict(sizes_of_artifacts(client, parent))
    for path in sorted([*output.glob("comparison*.*"), *output.glob("*/comparison*.*")]):
        name = path.relative_to(output).as_posix()
        if sizes.get(name) != path.stat().st_size:
            client.log_artifact(parent, str(path), name.rpartition("/")[0] or None)
    client.set_terminated(parent, "FINISHED")
    return len(runs)


def stage_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """The headline figures of the stages as a Markdown table, one row a stage; empty without a test.

    Args:
        figures: latest figures by stage.
    """
    keys = list(dict.fromkeys(key for found in figures.values() for key in found if HEADLINE.fullmatch(key)))
    if not keys:
        return ""
    rows = [[name, *(f"{found[key]:.4g}" if key in found else "" for key in keys)] for name, found in figures.items()]
    head = [["stage", *keys], ["---"] * (len(keys) + 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])


def parent_run(client: MlflowClient, experiment: str, output: Path, key: str) -> str:
    """Id of the run that stands for a study, made if there is none.

    Args:
        client: of the store.
        experiment: id of the MLflow experiment.
        output: folder of the study.
        key: of the study.
    """
    found = client.search_runs([experiment], f"tags.study_key = '{key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    source = {"mlflow.source.name": "lightning-gfn study", "mlflow.source.type": "LOCAL"}
    tags = {**source, "kind": "study", "study_key": key, "run_dir": str(output)}
    return str(client.create_run(experiment, tags=tags, run_name=output.resolve().name).info.run_id)
