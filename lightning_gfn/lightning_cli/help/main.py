"""``lightning-gfn COMMAND --help [CLASS | WORD | all]`` for the trainer's commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from lightning_gfn.lightning_cli.help.families import FAMILIES, GROUPS, class_paths
from lightning_gfn.lightning_cli.help.short import family_help, short_help

ASKED = ("-h", "--help")
WHOLE = "all"


def topic_of(arguments: Sequence[str]) -> str | None:
    """What help is asked for: empty for the short one, None if none is.

    Args:
        arguments: of a command.
    """
    for number, argument in enumerate(arguments):
        if argument.startswith("--help="):
            return argument.removeprefix("--help=")
        if argument in ASKED:
            following = [*arguments[number + 1 : number + 2], ""][0]
            return "" if following.startswith("-") else following
    return None


def main(arguments: list[str]) -> int:
    """Print what was asked for; returns the exit status.

    Args:
        arguments: the command, what it does, and the topic: empty, a word, or the name or path of a class.
    """
    command, summary, topic = arguments
    text = short_help(command, summary) if not topic else family_help(topic)
    if text is None:
        from lightning_gfn.lightning_cli.help.topics import topic_help

        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)  # a console script does not look there for the user's own classes
        text = topic_help(topic)
    if text is not None:
        print(text, flush=True)
        return 0
    print(f"lightning-gfn {command} --help: there is nothing about {topic!r}; {hint(topic)}", file=sys.stderr)
    return 2


def hint(topic: str) -> str:
    """What may have been meant."""
    words = [WHOLE, *GROUPS, *(family.word for family in FAMILIES)]
    by_lower = {name.lower(): name for name in [*words, *class_paths()]}
    close = get_close_matches(topic.lower(), by_lower, n=1)
    return f"did you mean {by_lower[close[0]]}?" if close else f"there are {', '.join(words)} and the names of classes."
