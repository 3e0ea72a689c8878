"""Texts of data and users in Markdown: they mean themselves, whatever signs they hold."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"[\\`*|\[\]#<>&]|(?<!\w)_|_(?!\w)")


def plain(text: object) -> str:
    """Text in one line, whose signs mean themselves in Markdown."""
    return SPECIAL.sub(lambda match: "\\" + match.group(), " ".join(str(text).split()))


def code(text: object) -> str:
    """Text in one line between as many backticks as it needs."""
    line = " ".join(str(text).split())
    ticks = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"`{line}`"


def fenced(text: str, language: str = "text") -> str:
    """Text in a code fence that is longer than any run of backticks inside it.

    Args:
        text: one or more lines.
        language: how the fence is marked.
    """
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
