"""Help for one class, or one group of options, with types and defaults as the parser knows them."""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module

from jsonargparse import ArgumentParser

from lightning_gfn.lightning_cli.help.families import FAMILIES, GROUPS, choices, class_paths, plain

OURS = ("lightning_gfn", "datamodules")


def load(path: str) -> type | None:
    """The class of a dotted path; None if there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name, None) if module else None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return None
    return found if inspect.isclass(found) else None


def option_of(name: str) -> str:
    """Where a class stands in a configuration; empty if that depends."""
    return next((family.option for family in FAMILIES if name in choices(family)), "")


def options_of(kind: type, key: str) -> str:
    """The options of a class.

    Args:
        kind: the class.
        key: stands before each of its arguments.
    """
    parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
    linked = {"run_dir"} if key == "mlflow" else None
    parser.add_class_arguments(kind, key or None, as_group=False, fail_untyped=False, skip=linked)
    return parser.format_help().strip() or "It has no options."


def topic_help(topic: str) -> str | None:
    """What is to be said of a class or a group of options; None if there is none of that name.

    Args:
        topic: trainer, checkpoint, mlflow, a public class of ours, or the dotted path of a class.
    """
    path = GROUPS.get(topic) or class_paths().get(topic, topic)
    kind = load(path)
    if kind is None:
        return None
    if topic in GROUPS:
        return options_of(kind, topic)
    option = option_of(kind.__name__) if kind.__module__.partition(".")[0] in OURS else ""
    said = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:")[0].rstrip()
    return "\n".join([f"{option} {path}".strip(), "", plain(said), "", options_of(kind, option.strip("-+"))])
