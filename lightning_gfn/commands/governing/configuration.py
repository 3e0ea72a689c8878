"""The configuration of a run of ``lightning-gfn govern``: a world, its agents, and principals by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gfn.commands.asking.classes import build
from lightning_gfn.installation.yaml_files import YamlFileError, read_yaml

FIELDS: Mapping[str, Any] = {
    "world": None,
    "agents": {},
    "principals": None,
    "rounds": 100,
    "populations": 1,
    "test_populations": 16,
    "rows_of": 10,
    "mlflow": {},
}
"""Fields of the file with their defaults; None where there is none."""


@dataclass(frozen=True)
class GovernConfig:
    """A run, read and checked; nothing but the world and the agents' settings is built yet.

    Args:
        world: class and arguments.
        agents: arguments of ``AgentSettings``.
        principal: class and arguments of the one that was chosen.
        name: of that principal, the method's name in comparisons.
        rounds: rounds that it plays.
        populations: that learn side by side in a round.
        test_populations: new ones, for each context, at the end.
        rows_of: rounds that one row of the learning curve is a mean of.
        mlflow: arguments of the MLflow logger; None for no MLflow.
    """

    world: Mapping[str, Any]
    agents: Mapping[str, Any]
    principal: Mapping[str, Any]
    name: str
    rounds: int
    populations: int
    test_populations: int
    rows_of: int
    mlflow: Mapping[str, Any] | None

    def content(self, seed: int) -> dict[str, Any]:
        """The form of ``config.yaml`` in the run folder."""
        numbers = {name: getattr(self, name) for name in ("rounds", "populations", "test_populations", "rows_of")}
        parts = {"world": self.world, "agents": self.agents, "principals": {self.name: self.principal}}
        return {"command": "govern", "seed": seed, **parts, **numbers, "mlflow": self.mlflow}


def read_config(path: Path, principal: str, rounds: int | None = None, model: str | None = None) -> GovernConfig:
    """Read the file of a run.

    Args:
        path: the YAML file.
        principal: which of its principals.
        rounds: instead of the file's.
        model: instead of that of a language principal's writer.

    Raises:
        ValueError: names file, field and remedy.
    """
    try:
        content = read_yaml(path)
    except YamlFileError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a mapping with the fields {', '.join(FIELDS)}")
    if unknown := sorted(content.keys() - FIELDS.keys()):
        raise ValueError(f"{path}: unknown field {unknown[0]!r}; known are {', '.join(FIELDS)}")
    found = {**FIELDS, **content, **({} if rounds is None else {"rounds": rounds})}
    for name in ("world", "principals"):
        if not isinstance(found[name], Mapping):
            raise ValueError(f"{path}: the field {name!r} is missing: give a mapping")
    if principal not in found["principals"]:
        raise ValueError(f"{path}: there is no principal {principal!r}; it has {', '.join(found['principals'])}")
    for name in ("rounds", "populations", "test_populations", "rows_of"):
        if not isinstance(found[name], int) or found[name] < 1:
            raise ValueError(f"{path}: {name} is {found[name]!r}, expected a whole number of at least 1")
    chosen = found.pop("principals")[principal]
    if model is not None:
        chosen = with_model(path, principal, chosen, model)
    return GovernConfig(**found, principal=chosen, name=principal)


def with_model(path: Path, name: str, principal: Any, model: str) -> dict[str, Any]:
    """A language principal whose writer asks another model.

    Raises:
        ValueError: the principal has no writer with a model.
    """
    arguments = dict((principal or {}).get("init_args") or {})
    writer = arguments.get("writer") or {}
    if "model" not in (writer.get("init_args") or {}):
        raise ValueError(f"--model: {path}: principals.{name} has no writer with a model")
    arguments["writer"] = {**writer, "init_args": {**writer["init_args"], "model": model}}
    return {**principal, "init_args": arguments}


def built(path: Path, field: str, node: Any) -> Any:
    """What a part of the file stands for.

    Raises:
        ValueError: names file and field.
    """
    if not isinstance(node, Mapping) or "class_path" not in node:
        raise ValueError(f"{path}: {field} needs class_path and init_args")
    try:
        return build(node)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{path}: {field}: {error}") from error
