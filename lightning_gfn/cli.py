"""The command line: an overview that costs nothing, and commands that are loaded when they are called."""

from __future__ import annotations

import ast
import os
import sys
from importlib import import_module
from pathlib import Path

from lightning_gfn import __version__
from lightning_gfn.installation.experiments import with_carried_files
from lightning_gfn.lightning_cli.help.main import WHOLE, topic_of
from lightning_gfn.stop_requests import StopRequests

TRAINER_COMMANDS = {
    "fit": "Train as a YAML file says; the run folder keeps everything.",
    "validate": "Measure on the validation problems.",
    "test": "Measure on the test problems.",
    "predict": "Write every sample of the prediction problems to a file.",
    "run": "fit, then test the weights it ended with.",
}
COMMANDS_FOLDER = Path(__file__).parent / "commands"
COMMAND_ROOMS = ("", "results", "self_training", "worlds")


def command_files() -> dict[str, Path]:
    """The other commands by name: one file each."""
    paths = [path for room in COMMAND_ROOMS for path in (COMMANDS_FOLDER / room).glob("[!_]*.py")]
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def command_module(path: Path) -> str:
    """Name of the module of a command's file."""
    return ".".join(["lightning_gfn", "commands", *path.relative_to(COMMANDS_FOLDER).with_suffix("").parts])


def summary(path: Path) -> str:
    """First line of a module's docstring, read without importing it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return docstring.splitlines()[0] if docstring else ""


def overview() -> str:
    """What ``lightning-gfn --help`` prints."""
    commands = TRAINER_COMMANDS | {name: summary(path) for name, path in command_files().items()}
    width = max(map(len, commands)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in commands.items()]
    return "\n".join(
        [
            f"lightning-gfn {__version__}: fine-tune language models to find many different correct solutions.",
            "",
            "usage: lightning-gfn COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "lightning-gfn COMMAND --help explains one command. To begin:",
            "  lightning-gfn quickstart             the whole path with a small model, in minutes",
            "  lightning-gfn model install          a pretrained model of 135 million parameters, and then",
            "  lightning-gfn init mine.csv          a configuration for a file of your own, or",
            "  lightning-gfn configs                those that come with the package",
        ]
    )


def carried_out(module: str, arguments: list[str]) -> int:
    """Run ``main`` of a module; signals that ask to stop end it in order, with 128 and their number as exit status."""
    with StopRequests() as requests:
        try:
            return int(import_module(module).main(arguments))
        except SystemExit:
            if requests.signum is None:
                raise
            return 128 + requests.signum
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13


def main(args: list[str] | None = None) -> int:
    """Run one command.

    Args:
        args: the command and its arguments; those of the process if None.

    Returns:
        the exit status.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    arguments, carried = with_carried_files(arguments)
    if carried:
        print(f"[lightning-gfn] from the package, not from here: {', '.join(carried)}", file=sys.stderr)
    name, rest = arguments[0], arguments[1:]
    if name in TRAINER_COMMANDS:
        topic = topic_of(rest)
        if topic is not None and topic != WHOLE:
            return carried_out("lightning_gfn.lightning_cli.help.main", [name, TRAINER_COMMANDS[name], topic])
        return carried_out("lightning_gfn.lightning_cli.main", arguments if topic is None else [name, "--help"])
    if name in (files := command_files()):
        return carried_out(command_module(files[name]), rest)
    from difflib import get_close_matches

    close = get_close_matches(name, [*TRAINER_COMMANDS, *files], n=1)
    hint = f"did you mean {close[0]}?" if close else "lightning-gfn --help lists the commands."
    print(f"lightning-gfn: there is no command {name!r}; {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
