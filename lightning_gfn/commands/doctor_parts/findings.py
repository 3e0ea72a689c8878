"""One thing that was looked at, and all of them as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "missing", "needed"]
WIDTH = 118


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Args:
        section: that it belongs to.
        name: of the thing.
        state: there and fit, there with a remark, missing, or missing and needed for anything at all.
        value: what was found.
        gives: what it would give if it were there.
        command: that brings it.
    """

    section: str
    name: str
    state: State
    value: str
    gives: str = ""
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON."""
        return asdict(self)


def table(findings: Sequence[Finding]) -> str:
    """Findings by section; what is missing says what it would give, and how to get it."""
    width = max(len(finding.name) for finding in findings) + 2
    lines: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            lines += ["", finding.section] if lines else [finding.section]
            section = finding.section
        lines += wrapped(f"  {finding.state:<9}{finding.name:<{width}}", finding.value)
        if finding.gives:
            lines += wrapped(" " * (11 + width), f"gives: {finding.gives}")
        if finding.command:
            lines.append(" " * (11 + width) + finding.command)
    return "\n".join(lines)


def wrapped(head: str, text: str) -> list[str]:
    """A text behind a head, its further lines below the first one; an address or path is not broken."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]
