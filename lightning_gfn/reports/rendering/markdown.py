"""The comparison as a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.rendering import sentences, tables
from lightning_gfn.reports.rendering.sensitivity import sensitivity_table
from lightning_gfn.reports.rendering.tables import TextTable

SPECIAL = re.compile(r"[\\`*|\[\]#]|(?<!\w)_|_(?!\w)")


def escaped(text: str) -> str:
    """A text whose signs mean themselves in Markdown, HTML inside it included."""
    return SPECIAL.sub(lambda match: "\\" + match.group(), text.replace("&", "&amp;").replace("<", "&lt;"))


def with_escaped_names(page: str, names: Sequence[str]) -> str:
    """A page in which the names of methods mean themselves."""
    for name in sorted(names, key=len, reverse=True):
        if escaped(name) != name:
            page = page.replace(name, escaped(name))
    return page


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table; the first column is text, the others are numbers."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *numbers]) + " |"

    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])


def with_title(table: TextTable, level: int = 3) -> str:
    """A table under its title, with its notes."""
    title = [f"{'#' * level} {table.title}"] if table.title else []
    return "\n\n".join([*title, markdown_table(table.header, table.rows), *table.notes])


def bullets(lines: Sequence[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {line}" for line in lines)


def section(title: str, *parts: str) -> list[str]:
    """A heading with what stands below it; nothing if that is nothing."""
    known = [part for part in parts if part]
    return [f"## {title}", *known] if known else []


def findings_text(c: Comparison) -> str:
    """The lead sentences, each with the differences to the baseline below it."""
    lines = []
    for lead, differences in sentences.findings(c):
        lines += [f"- {lead}", *(f"  - {line}" for line in differences)]
    return "\n".join(lines)


def comparison_markdown(c: Comparison, *, image: str | None = None) -> str:
    """The whole page.

    Args:
        c: what was found.
        image: file name of the figure, relative to the page.
    """
    parts = [
        "# Comparison of " + ", ".join(c.methods),
        with_title(tables.headline_table(c)),
        sentences.reach_sentence(c),
    ]
    if image is not None:
        parts.append(f"![Accuracy against diversity, and each metric by method]({image})")
    optional = {
        "matched": tables.matched_table(c),
        "best": tables.best_table(c),
        "grid": tables.grid_table(c),
        "sensitivity": sensitivity_table(c),
        "ranks": tables.ranking_table(c),
        "follows": tables.faithfulness_table(c),
        "spent": tables.spending_table(c),
    }
    shown = {name: with_title(table) if table is not None else "" for name, table in optional.items()}
    matched = sentences.matched_sentences(c)
    parts += section(f"Distinct solutions against {c.baseline}", bullets(sentences.claims(c)))
    parts += section("What happened", findings_text(c))
    parts += section("Tests", with_title(tables.difference_table(c)))
    parts += section("At matched accuracy", bullets(matched), shown["matched"]) if matched else []
    parts += section("Each method at its best temperature", sentences.best_sentence(c), shown["best"])
    parts += section("By temperature", shown["grid"])
    parts += section("By threshold and temperature", shown["sensitivity"])
    parts += section("Does the ranking hold for other measures of diversity?", shown["ranks"])
    parts += section("Does the answer follow the rationale?", shown["follows"])
    for name, found in tables.strata_tables(c).items():
        parts += section(f"By {name}", *(with_title(table) for table in found))
    parts += section("What training spent", shown["spent"], bullets(sentences.spending_sentences(c)))
    parts += section(
        "How it was measured", bullets(sentences.setting_sentences(c)), with_title(tables.settings_table(c))
    )
    parts += section("Further metrics", *(with_title(table) for table in tables.further_tables(c)))
    return with_escaped_names("\n\n".join(parts), c.methods) + "\n"
