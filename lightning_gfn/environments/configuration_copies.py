"""Objects that hold processes: a copy or pickle of one is its configuration, and starts processes of its own."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Any


class ConfigurationCopies(ABC):
    """Copies keep public attributes; what is private belongs to running processes and is made anew by ``_forget``."""

    @abstractmethod
    def _forget(self) -> None:
        """Set every private attribute to that of an object of which nothing runs."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def missing_tools(module: str, package: str, git: str = "git") -> list[str]:
    """Name the tools that a backend on elan lacks here.

    Args:
        module: Python module that it needs.
        package: how to get that.
        git: how to name git.
    """
    found = {
        package: find_spec(module) is not None,
        git: shutil.which("git") is not None,
        "elan with lake on the PATH (https://github.com/leanprover/elan)": shutil.which("lake") is not None,
    }
    return [name for name, is_there in found.items() if not is_there]
