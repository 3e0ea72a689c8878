"""The YAML files of ``experiments/``: those of the clone, or those that the installed package carries."""

from __future__ import annotations

from pathlib import Path

FOLDER = "experiments"
_PACKAGE = Path(__file__).resolve().parents[1]


def carried_experiments() -> Path:
    """The folder ``experiments`` of an installed package, or of the clone that it was installed from."""
    installed = _PACKAGE / FOLDER
    return installed if installed.is_dir() else _PACKAGE.parent / FOLDER


def experiments_folder() -> Path:
    """``experiments`` where the user stands, or else the carried one."""
    here = Path(FOLDER)
    return here if here.is_dir() else carried_experiments()


def with_carried_files(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Put the carried file in the place of each ``experiments/…`` that is not where the user stands.

    Args:
        arguments: a command line.

    Returns:
        The arguments to use, and the names that were replaced.
    """
    used, replaced = [], []
    for argument in arguments:
        option, equals, name = argument.rpartition("=") if argument.startswith("--") else ("", "", argument)
        relative = Path(name)
        if relative.parts[:1] == (FOLDER,) and ".." not in relative.parts and not relative.exists():
            carried = carried_experiments().joinpath(*relative.parts[1:])
            if carried.is_file():
                argument = f"{option}{equals}{carried}"
                replaced.append(name)
        used.append(argument)
    return used, replaced
