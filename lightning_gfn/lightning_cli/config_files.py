"""Reading configuration files before the parser does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lightning_gfn.lightning_cli.refusals import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_yaml(args: Sequence[str]) -> None:
    """Make sure that every ``--config`` file is YAML, because the parser's own message would not name the file.

    Raises:
        UsageError: naming the file and the line.
    """
    for option, value in zip(args, [*args[1:], ""], strict=True):
        name = value if option in ("--config", "-c") else option.removeprefix("--config=")
        if name == option or not Path(name).is_file():
            continue
        try:
            yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark is not None else "?"
            raise UsageError(f"{name}, line {line}: not YAML ({error.problem})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}: not YAML ({error})") from error
