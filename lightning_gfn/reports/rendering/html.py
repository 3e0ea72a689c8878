"""The comparison as one HTML page that needs nothing else: no file, no server, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from lightning_gfn.reports.comparison import Comparison
from lightning_gfn.reports.rendering import sentences, tables
from lightning_gfn.reports.rendering.plots import Figure, figures
from lightning_gfn.reports.rendering.samples import sample_data
from lightning_gfn.reports.rendering.sensitivity import sensitivity_table
from lightning_gfn.reports.rendering.tables import TextTable


def template(name: str) -> str:
    """The text of a file beside this one."""
    return (files("lightning_gfn.reports.rendering") / "templates" / name).read_text(encoding="utf-8")


def rich(text: str) -> str:
    """A sentence as HTML: ``**strong**`` and ``code`` in backticks, all else as it is."""
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", safe)


def bullets(lines: Sequence[str]) -> str:
    """Sentences as a list."""
    return f"<ul>{''.join(f'<li>{rich(line)}</li>' for line in lines)}</ul>" if lines else ""


def html_table(table: TextTable, *, marks: Sequence[Sequence[str]] | None = None) -> str:
    """A table under its title, with its notes.

    Args:
        table: the cells.
        marks: a class for each cell but those of the first column.
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = []
    for number, row in enumerate(table.rows):
        kinds = marks[number] if marks is not None else [""] * (len(row) - 1)
        cells = "".join(
            f'<td class="{kind}">{figure_cell(cell)}</td>' for cell, kind in zip(row[1:], kinds, strict=True)
        )
        rows.append(f"<tr><th>{escape(row[0])}</th>{cells}</tr>")
    title = f"<h4>{escape(table.title)}</h4>" if table.title else ""
    notes = "".join(f'<p class="note">{rich(note)}</p>' for note in table.notes)
    end = len(rows) - table.fixed
    foot = f"<tfoot>{''.join(rows[end:])}</tfoot>" if table.fixed else ""
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows[:end])}</tbody>{foot}</table>"
    return f'{title}<div class="scroll">{body}</div>{notes}'


def figure_cell(cell: str) -> str:
    """A figure with its interval in small type."""
    return re.sub(r"(\[[^\]]+\])", r'<span class="interval">\1</span>', escape(cell))


def headline(c: Comparison) -> str:
    """The headline table; an arrow where the difference to the baseline is shown."""
    table = tables.headline_table(c)
    num_costs = len(table.header) - 1 - len(c.metrics)
    marks = []
    for name in c.methods:
        row = c.differences.get(name, {})
        signs = [{1: "up", -1: "down", 0: "level"}[row[m].sign] if m in row else "level" for m in c.metrics]
        marks.append([*signs, *["level"] * num_costs])
    note = (
        f"▲ ▼: higher or lower than {c.baseline} at 5% (Holm-corrected for the primary metrics, by the 95% interval "
        "for others). Brackets: 95% intervals."
    )
    return html_table(table, marks=marks) + f'<p class="note">{escape(note)}</p>'


def findings(c: Comparison) -> str:
    """The lead sentences, each with the differences to the baseline folded below it."""
    parts = []
    for lead, lines in sentences.findings(c):
        parts.append(f"<details><summary>{rich(lead)}</summary>{bullets(lines)}</details>")
    return "".join(parts)


def figure(one: Figure) -> str:
    """A plot with its choices."""
    selects = ""
    for label, options in one.choices:
        entries = "".join(f"<option>{escape(option)}</option>" for option in options)
        selects += f"<label>{escape(label)} <select>{entries}</select></label>"
    drawings = "".join(
        f'<div class="drawing" data-key="{escape("|".join(key))}"{"" if number == 0 else " hidden"}>{svg}</div>'
        for number, (key, svg) in enumerate(one.drawings.items())
    )
    bar = f'<div class="choices">{selects}</div>' if selects else ""
    return (
        f'<figure class="{"wide" if one.wide else ""}"><h3>{escape(one.title)}</h3>{bar}{drawings}'
        f'<p class="absent note" hidden>No method has this figure on this axis.</p>'
        f"<figcaption>{escape(one.note)}</figcaption></figure>"
    )


def legend(c: Comparison) -> str:
    """The methods; a click hides or shows one in every plot."""
    buttons = "".join(
        f'<button type="button" class="c{index % 8}" data-method="{index}" aria-pressed="true">{escape(name)}</button>'
        for index, name in enumerate(c.methods)
    )
    return f'<div class="legend"><span>Show in plots:</span>{buttons}</div>'


def matched(c: Comparison) -> str:
    """What is found at equal solve rates."""
    table = tables.matched_table(c)
    return bullets(sentences.matched_sentences(c)) + html_table(table) if table is not None else ""


def optional(table: TextTable | None, before: str = "", after: str = "") -> str:
    """A table that may be missing, between text."""
    return f"{before}{html_table(table)}{after}" if table is not None else ""


def strata(c: Comparison) -> str:
    """The tables of each field."""
    parts = []
    for name, found in tables.strata_tables(c).items():
        parts.append(f"<h3>By {escape(name)}</h3>{''.join(map(html_table, found))}")
    return "".join(parts)


def setting(c: Comparison) -> str:
    """How the figures were measured, how far they reach, and where the runs lie."""
    said = bullets([sentences.reach_sentence(c), *sentences.setting_sentences(c)])
    folded = f"<details><summary>Run folders</summary>{html_table(tables.runs_table(c))}</details>"
    return said + html_table(tables.settings_table(c)) + folded


def browser(data: dict[str, Any] | None) -> str:
    """The frame of the sample browser, which the page's script fills."""
    if data is None:
        return "<p>The runs kept no completions (<code>keep_completions: false</code> of their Evaluation).</p>"
    shown = len(data["problems"])
    cap = f" The first {shown} of {data['total']} problems are on this page." if shown < data["total"] else ""
    note = (
        "Right solutions, one of each kind (greedy, ROUGE-L below "
        f"{data['threshold']:g} is different; × says how many samples a solution stands for).{cap}"
    )
    if data["classes"]:
        note += (
            " Tags name the class of a solution; grouped by class, every different right text is shown. Classes called "
            "cluster are numbered within each run's samples of a problem."
        )
    return f'<p class="note">{escape(note)}</p>{template("browser.html")}'


def embedded(data: dict[str, Any] | None) -> str:
    """Data as JSON that no text in it can break out of."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def comparison_html(c: Comparison, *, max_sample_bytes: int | None = None) -> str:
    """The whole page.

    Args:
        c: what was found.
        max_sample_bytes: room for the samples of the browser; about 6 MB if None.
    """
    data = sample_data(c) if max_sample_bytes is None else sample_data(c, max_bytes=max_sample_bytes)
    spent = optional(tables.spending_table(c), after=bullets(sentences.spending_sentences(c)))
    sections = {
        "Results": headline(c),
        f"Distinct solutions against {c.baseline}": bullets(sentences.claims(c)),
        "Plots": legend(c) + f'<div class="figures">{"".join(map(figure, figures(c)))}</div>',
        "At matched accuracy": matched(c),
        "At the best temperature": optional(tables.best_table(c), f"<p>{escape(sentences.best_sentence(c))}</p>"),
        "Metric by metric": findings(c) + html_table(tables.difference_table(c)),
        "By temperature": optional(tables.grid_table(c)),
        "By threshold and temperature": optional(sensitivity_table(c)),
        "Other measures of diversity": optional(tables.ranking_table(c)),
        "Does the answer follow the rationale?": optional(tables.faithfulness_table(c)),
        "Strata": strata(c),
        "Cost": spent if spent else bullets(sentences.spending_sentences(c)),
        "Samples": browser(data),
        "Setting": setting(c),
        "Further metrics": "".join(map(html_table, tables.further_tables(c))),
    }
    known = {title: body for title, body in sections.items() if body}
    nav = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, title in enumerate(known))
    body = "".join(
        f'<section id="s{i}"><h2>{escape(title)}</h2>{text}</section>' for i, (title, text) in enumerate(known.items())
    )
    return Template(template("page.html")).substitute(
        title=escape("Comparison of " + ", ".join(c.methods)),
        reach=rich(sentences.reach_sentence(c)),
        css=template("page.css"),
        js=template("page.js"),
        nav=nav,
        body=body,
        data=embedded(data),
    )
