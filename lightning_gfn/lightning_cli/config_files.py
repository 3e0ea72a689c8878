"""Reading configuration files before the parser does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.installation.yaml_files import YamlFileError, read_yaml
from lightning_gfn.lightning_cli.refusals import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_yaml(args: Sequence[str]) -> None:
    """Read every ``--config`` file and those that it names, because the parser's own messages would not name the file.

    Raises:
        UsageError: naming the file and the line.
    """
    for option, value in zip(args, [*args[1:], ""], strict=True):
        name = value if option in ("--config", "-c") else option.removeprefix("--config=")
        if name != option and Path(name).exists():
            check_file(Path(name), set())


def check_file(path: Path, seen: set[Path]) -> None:
    """Check a file and the YAML files that its values name, relative to its folder.

    Args:
        path: of the file.
        seen: files that were checked already; grows.

    Raises:
        UsageError: naming the file and the line.
    """
    if (place := path.resolve()) in seen:
        return
    seen.add(place)
    try:
        content = read_yaml(path)
    except YamlFileError as error:
        raise UsageError(str(error)) from error
    for name in texts(content):
        if name.endswith((".yaml", ".yml")) and (inner := path.parent / name).is_file():
            check_file(inner, seen)


def texts(value: Any) -> Iterator[str]:
    """Every text within lists and mappings."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)
