"""Functions that a setting names by a dotted path or by a file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast


def accepted_arguments(function: Callable[..., Any]) -> frozenset[str] | None:
    """Names that the function takes as keywords; None if it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(parameter.name for parameter in parameters if parameter.kind in by_keyword)


def called(function: str | Callable[..., Any], kind: str) -> Callable[..., Any]:
    """The function itself, or an instance of the class, that a setting names."""
    loaded = load_function(function, kind) if isinstance(function, str) else function
    return cast(type, loaded)() if inspect.isclass(loaded) else loaded


def load_function(path: str, kind: str) -> Callable[..., Any]:
    """Import ``package.module.f`` or ``path/to/file.py:f``.

    Args:
        path: where the function is.
        kind: what messages call it.

    Returns:
        The function or class.

    Raises:
        ValueError: if it cannot be found or called.
    """
    file, colon, name = path.rpartition(":")
    if not colon:
        file, _, name = path.rpartition(".")
    if not file or not name:
        raise ValueError(f"{kind} '{path}': write package.module.f or path/to/file.py:f")
    try:
        module = _load_file(Path(file), kind) if colon else importlib.import_module(file)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{kind} '{path}': {error}; for a file outside the installed packages write path/to/file.py:f"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{kind} '{path}': '{file}' has no function or class '{name}'")
    return function


def _load_file(file: Path, kind: str) -> Any:
    if not file.is_file():
        raise ValueError(f"{kind} file '{file}' does not exist (looked in {Path.cwd()})")
    name = f"{kind.replace(' ', '_')}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{kind} file '{file}' is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look their module up by name
    spec.loader.exec_module(module)
    return module
