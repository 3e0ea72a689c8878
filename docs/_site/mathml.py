"""MkDocs hook: equations become MathML while the site is built, so that browsers show them without any script."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def mathml(latex: str, *, block: bool) -> str:
    """An equation as MathML.

    Raises:
        ValueError: a command of LaTeX was not understood.
    """
    from latex2mathml.converter import convert

    line = " ".join(latex.split("\n")).strip()
    equation = convert(line, display="block" if block else "inline")
    if "\\" in equation:
        raise ValueError(f"latex2mathml does not know a command in: {line}")
    return re.sub(r"(<mi>(?:log|exp)</mi>)(?!<mo)", r'\1<mspace width="0.17em"/>', equation)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate the equations of a page."""

    def translated(match: re.Match[str]) -> str:
        equation = mathml(html.unescape(match[3]), block=match[2] == "[")
        return f'<div class="equation">{equation}</div>' if match[2] == "[" else equation

    return EQUATION.sub(translated, content)
