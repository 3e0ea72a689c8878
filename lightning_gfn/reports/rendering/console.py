"""What ``compare`` prints: plain tables and sentences that fit the terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.rendering import sentences, tables
from lightning_gfn.reports.rendering.tables import TextTable

GAP = "  "
LEAST_WIDTH = 40
MOST_HEADER = 18  # letters of a line of a title that is longer than the figures below it


def console_summary(c: Comparison, width: int) -> str:
    """The headline table, the claims, how far they reach, and what training spent.

    Args:
        c: what was found.
        width: letters a line; below 40 counts as 40.
    """
    width = max(width, LEAST_WIDTH)
    spent = tables.spending_table(c)
    parts = [console_table(tables.headline_table(c, costs=False), width)]
    parts.append("\n".join(said(line, width, bullet="- ") for line in sentences.claims(c)))
    parts.append(said(sentences.reach_sentence(c), width))
    parts.append(console_table(spent, width) if spent is not None else "")
    return "\n\n".join(part for part in parts if part)


def said(text: str, width: int, *, bullet: str = "") -> str:
    """A sentence in lines, without the marks of Markdown."""
    plain = re.sub(r"\*\*(.+?)\*\*", r"\1", visible(text))
    return textwrap.fill(plain, width, initial_indent=bullet, subsequent_indent=" " * len(bullet))


def visible(text: str) -> str:
    """A text without signs that steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def console_table(table: TextTable, width: int) -> str:
    """A table; columns that do not fit beside the first one stand below, under the first one again."""
    rows = [[visible(cell) for cell in row] for row in table.rows]
    first = max(width // 3, 12)
    names = [cut(row[0], first) for row in rows]
    heads = [visible(cell) for cell in table.header]
    figures = [[row[column] for row in rows] for column in range(1, len(heads))]
    columns = [column_lines(heads[0], names, align="left")]
    columns += [column_lines(head, cells) for head, cells in zip(heads[1:], figures, strict=True)]
    blocks, block = [], [columns[0]]
    for column in columns[1:]:
        if len(block) > 1 and sum(len(one[1][0]) + len(GAP) for one in [*block, column]) - len(GAP) > width:
            blocks.append(block)
            block = [columns[0]]
        block.append(column)
    parts = ["\n".join(joined(one)) for one in [*blocks, block]]
    return "\n\n".join(parts + [said(note, width) for note in table.notes])


def cut(text: str, most: int) -> str:
    """A text, its middle left out where it is longer: names of methods often differ at their ends."""
    tail = (most - 2) // 2
    return text if len(text) <= most else text[: most - 2 - tail] + ".." + text[-tail:]


def column_lines(head: str, cells: Sequence[str], *, align: str = "right") -> tuple[list[str], list[str]]:
    """The lines of a column's title and its cells, all of one width.

    Args:
        head: its title.
        cells: below it.
        align: ``left`` or ``right``.
    """
    room = max(map(len, cells), default=0)
    lines = textwrap.wrap(head, max(room, MOST_HEADER)) or [""]
    room = max(room, *map(len, lines))
    set_in = str.ljust if align == "left" else str.rjust
    return [set_in(line, room) for line in lines], [set_in(cell, room) for cell in cells]


def joined(columns: Sequence[tuple[list[str], list[str]]]) -> list[str]:
    """The lines of columns side by side: titles that end on one line, a rule, and the cells."""
    height = max(len(head) for head, _ in columns)
    widths = [len(cells[0] if cells else head[0]) for head, cells in columns]
    heads = [[" " * width] * (height - len(head)) + head for (head, _), width in zip(columns, widths, strict=True)]
    lines = [GAP.join(line) for line in zip(*heads, strict=True)]
    lines.append(GAP.join("-" * width for width in widths))
    lines += [GAP.join(line) for line in zip(*(cells for _, cells in columns), strict=True)]
    return [line.rstrip() for line in lines]
