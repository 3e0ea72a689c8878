"""Install, examine and use Lean: install, doctor, check, generate, rewards."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path


def subcommands() -> dict[str, Path]:
    """The subcommands by name: one file of ``lean_commands`` each."""
    files = sorted((Path(__file__).parent / "lean_commands").glob("[!_]*.py"))
    return {path.stem: path for path in files}


def summary(path: Path) -> str:
    """First line of a subcommand's docstring, read without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def overview() -> str:
    """What ``lightning-gfn lean --help`` prints."""
    lines = [f"  {name:<10}{summary(path)}" for name, path in subcommands().items()]
    return "\n".join(
        [
            "usage: lightning-gfn lean SUBCOMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "lightning-gfn lean SUBCOMMAND --help explains one of them. On a new machine begin with:",
            "  lightning-gfn lean install",
        ]
    )


def main(args: list[str]) -> int:
    """Run a subcommand; returns its exit status, 2 if there is none of that name."""
    if not args or args[0] in ("-h", "--help"):
        print(overview())
        return 0
    name, rest = args[0], args[1:]
    if name not in subcommands():
        print(f"lean: there is no subcommand {name!r}; expected one of {', '.join(subcommands())}", file=sys.stderr)
        return 2
    return int(import_module(f"lightning_gfn.commands.lean_commands.{name}").main(rest))
