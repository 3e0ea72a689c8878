"""A configuration without what is a default anyway."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import Any

import yaml
from lightning.pytorch import Trainer


def short_yaml(config: Mapping[str, Any]) -> str:
    """YAML text of a configuration of the trainer's commands, without settings that have their default.

    Args:
        config: ``trainer``, and classes with their settings as ``class_path`` and ``init_args``.
    """
    shown = {name: without_defaults(value) for name, value in config.items()}
    if isinstance(config.get("trainer"), Mapping):
        shown["trainer"] = changed(config["trainer"], Trainer)
    return yaml.safe_dump(shown, sort_keys=False, width=110, default_flow_style=None, allow_unicode=True)


def without_defaults(value: Any) -> Any:
    """The same value, of each class inside it only the settings that differ from the class's defaults."""
    if isinstance(value, (list, tuple)):
        return [without_defaults(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
    if "class_path" not in value:
        return {name: without_defaults(inner) for name, inner in value.items()}
    module, _, name = value["class_path"].rpartition(".")
    settings = changed(value.get("init_args") or {}, getattr(import_module(module), name))
    return {"class_path": value["class_path"], **({"init_args": settings} if settings else {})}


def changed(settings: Mapping[str, Any], made: Any) -> dict[str, Any]:
    """Settings that differ from the defaults of a class.

    Args:
        settings: as the configuration holds them.
        made: the class.
    """
    defaults = defaults_of(made)
    kept = {}
    for name, value in settings.items():
        if name in defaults and plain(value) == plain(defaults[name]):
            continue
        inner = settings_class(made, name) if isinstance(value, Mapping) and "class_path" not in value else None
        kept[name] = without_defaults(value) if inner is None else changed(value, inner)
    return kept


def defaults_of(made: Any) -> dict[str, Any]:
    """Names and defaults of the arguments that a class has defaults for."""
    if is_dataclass(made):
        return {field.name: field.default for field in fields(made) if field.default is not MISSING}
    parameters = [
        parameter
        for base in reversed(inspect.getmro(made))
        if "__init__" in vars(base) and base is not object
        for parameter in inspect.signature(vars(base)["__init__"]).parameters.values()
    ]
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def settings_class(made: Any, name: str) -> Any:
    """The dataclass of settings that an argument takes; None if it takes none."""
    own = [vars(base)["__init__"] for base in inspect.getmro(made) if "__init__" in vars(base)]
    for source in (made, *own):
        try:
            hint = typing.get_type_hints(source).get(name)
        except NameError:  # a name that is imported for type checkers alone
            continue
        found = next((kind for kind in (hint, *typing.get_args(hint)) if is_dataclass(kind)), None)
        if found is not None:
            return found
    return None


def plain(value: Any) -> Any:
    """Tuples as lists, as YAML has them."""
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
