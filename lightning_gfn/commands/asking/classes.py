"""Classes by their paths, as YAML names them: commands build data sets and policies without a trainer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lightning_gfn.installation.our_datamodules import prefer_our_datamodules


def find_classes() -> None:
    """Let class paths name what ``lightning-gfn run`` would find: our data sets, and classes of the working folder."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    if (note := prefer_our_datamodules()) is not None:
        print(f"[lightning-gfn] {note}", file=sys.stderr, flush=True)


def class_at(path: str) -> Any:
    """The class of a path such as ``datamodules.gsm8k.GSM8K``.

    Raises:
        ValueError: there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"class_path {path!r} cannot be imported ({error}): run this where its file is found"
        ) from error


def build(node: Any) -> Any:
    """What a node of a configuration stands for: objects where it names classes, else itself.

    Raises:
        ValueError: a class cannot be imported, or refuses its arguments.
    """
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "class_path" not in node:
        return {name: build(value) for name, value in node.items()}
    arguments = {name: build(value) for name, value in (node.get("init_args") or {}).items()}
    try:
        return class_at(str(node["class_path"]))(**arguments)
    except TypeError as error:
        raise ValueError(f"{node['class_path']}: {error}") from error
