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

MAX_LINE = 200


class Parser(LightningArgumentParser):
    """A parser whose errors about unknown keys say which key may have been meant."""

    command = ""
    arguments: ClassVar[list[str]] = []
    """The whole command line."""

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Parse; nulls stay nulls in lists and nested classes, and become no text."""
        given = None if args is None else with_nulls(args)
        config = super().parse_args(given, *more, **options)
        for key in null_keys(given or ()):
            if "null" in (config.get(key), config.get(f"{self.command}.{key}")):
                self.error(f'Parser key "{key}": null is not possible here, a text is expected')
        return config

    def validate(self, namespace: Namespace, skip_unset: bool = True, *more: Any, **options: Any) -> None:
        """Check a configuration.

        Raises:
            TypeError: a value is not possible, or there is a null in its place.
        """
        super().validate(namespace, False, *more, **options)
        for key in self.groups:
            if key in namespace and namespace[key] is None and self.get_defaults().get(key) is not None:
                raise TypeError(f'Parser key "{key}": null is not possible here, settings are expected')

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message, without the usage of a hundred options before it, and exit with status 2."""
        hint = "" if "Did you mean" in message else suggestion(message, known_keys(self))
        if "device_map" in message:
            hint = "\ndevice_map is not supported: set trainer.strategy to fsdp2, which cuts a model over all devices"
        print(f"lightning-gfn {self.command}: error: {cut(message)}{hint}", file=sys.stderr)
        print(f"lightning-gfn {self.command} --help all lists all options.", file=sys.stderr)
        raise SystemExit(2)


def cut(message: str) -> str:
    """A message whose lines are at most 200 characters long: the parser quotes whole configurations."""
    return "\n".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…" for line in message.splitlines())


def with_nulls(arguments: Sequence[str]) -> list[str]:
    """Arguments whose nulls the parser understands at every depth.

    jsonargparse hands the value of a nested class on as Python's text for it, and a null that is appended to a list
    would take the place of the list.
    """
    given = [with_null(argument) for argument in arguments]
    for number, argument in enumerate(given):
        if argument.startswith("--") and argument.endswith("+") and given[number + 1 : number + 2] == ["null"]:
            given[number + 1] = "[null]"
        elif argument.startswith("--") and argument.endswith("+=null"):
            given[number] = argument.removesuffix("null") + "[null]"
    return given


def with_null(argument: str) -> str:
    """``--key=None`` as ``--key=null``, also inside lists and dictionaries; other arguments as they are."""
    key, equals, value = argument.partition("=")
    if not key.startswith("--") or not equals or "None" not in value:
        return argument
    try:
        return f"{key}={json.dumps(ast.literal_eval(value))}"
    except (ValueError, SyntaxError, TypeError):
        return argument


def null_keys(arguments: Sequence[str]) -> list[str]:
    """The keys that arguments set to null, as ``--key null`` or ``--key=null``."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    keys = [option.removesuffix("=null") for option, value in pairs if value == "null" or option.endswith("=null")]
    return [key.removeprefix("--") for key in keys if key.startswith("--")]


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
