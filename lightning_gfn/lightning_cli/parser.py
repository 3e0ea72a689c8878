"""The parser of the trainer's commands, whose errors say which key may have been meant."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import re
import sys
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

if TYPE_CHECKING:
    from collections.abc import Sequence


class Parser(LightningArgumentParser):
    """A parser whose errors about unknown keys say which key may have been meant."""

    command = ""
    arguments: ClassVar[list[str]] = []
    """The whole command line."""

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Parse; a value of a nested class, which jsonargparse hands on as Python's text for it, keeps its nulls."""
        return super().parse_args(None if args is None else [with_null(arg) for arg in args], *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message, without the usage of a hundred options before it, and exit with status 2."""
        hint = "" if "Did you mean" in message else suggestion(message, known_keys(self))
        print(f"lightning-gfn {self.command}: error: {message}{hint}", file=sys.stderr)
        print(f"lightning-gfn {self.command} --help lists all options.", file=sys.stderr)
        raise SystemExit(2)


def with_null(argument: str) -> str:
    """``--key=None`` as ``--key=null``, also inside lists and dictionaries; other arguments as they are."""
    key, equals, value = argument.partition("=")
    if not key.startswith("--") or not equals or "None" not in value:
        return argument
    try:
        return f"{key}={json.dumps(ast.literal_eval(value))}"
    except (ValueError, SyntaxError, TypeError):
        return argument


def known_keys(parser: argparse.ArgumentParser) -> set[str]:
    """The keys of a parser and of its commands."""
    keys = set()
    for action in parser._actions:
        keys.add(action.dest)
        choices = action.choices if isinstance(action.choices, dict) else {}
        for command in choices.values():
            keys |= known_keys(command)
    return keys


def suggestion(message: str, known: set[str]) -> str:
    """``Did you mean …?`` for the misspelt key that a message names; empty if nothing is close."""
    found = re.search(r"(?:[Kk]ey|[Oo]ption|arguments:|attribute) ['\"]?(?:--)?([\w.]+)", message)
    name = found.group(1) if found is not None else ""
    if not name or name in known:
        return ""
    last_parts = {key.rsplit(".", 1)[-1]: key for key in known}
    for part, candidates in (
        (name, {key: key for key in known}),
        (name.rsplit(".", 1)[-1], last_parts),
        (name.split(".", 1)[0], {key: key for key in known if "." not in key}),
    ):
        if close := difflib.get_close_matches(part, candidates, n=1, cutoff=0.75):
            return f"\nDid you mean {candidates[close[0]]!r}?"
    return ""
