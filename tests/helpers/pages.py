"""The Markdown pages of the repository, taken apart: code blocks, commands, files to save, links and headings."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECORDS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "experiments").rglob("*.md"))]
PAGES = [*DOCS, *RECORDS]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"^( *)\*\*`(\S+)`\*\*\n\n\1```\w*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
TRAINER_LINE = re.compile(r"(?:^|`) *(lightning-gfn (?:fit|validate|test|predict|run) --config [^`\n]+)", re.MULTILINE)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def joined(text: str) -> str:
    """The text with every command on one line: a backslash ends the lines that go on."""
    return re.sub(r" \\\n +", " ", text)


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and body of every fenced code block."""
    return [(language, textwrap.dedent(body)) for _, language, body in FENCE.findall(text)]


def files(text: str) -> dict[str, str]:
    """What a page asks its reader to save, by name."""
    return {name: textwrap.dedent(body) for _, name, body in FILE.findall(text)}


def commands(text: str) -> list[str]:
    """Every line of the shell blocks of a page, without its comment."""
    shell = [body for language, body in blocks(joined(text)) if language in ("", "bash")]
    lines = [re.sub(r" +# .*", "", line).strip() for body in shell for line in body.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def trainer_lines(page: str) -> Iterator[str]:
    """Every trainer command of a page; below a heading, a table's files take the place of the last command's file."""
    for section in re.split(r"^##", joined(page), flags=re.MULTILINE):
        lines = [re.sub(r" +# .*", "", line) for line in TRAINER_LINE.findall(section)]
        yield from lines
        rows = [row for row in section.splitlines() if row.startswith("|")]
        for file in re.findall(r"\]\(([^)]+\.yaml)\)", "\n".join(rows)) if "| result | file |" in section else []:
            yield re.sub(r"--config \S+", f"--config experiments/{file}", lines[-1], count=1)


def definitions(text: str) -> dict[str, str]:
    """Name → target of the reference links of a page."""
    return dict(re.findall(r"^ *\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))


def prose(text: str) -> str:
    """A page without its code and equations."""
    text = FENCE.sub("", text)
    return re.sub(r"`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.DOTALL)


def links(text: str) -> list[str]:
    """Targets of a page's links within the repository, anchors included."""
    bare = prose(text)
    found = [*re.findall(r"\]\(([^)\s]+)\)", bare), *definitions(bare).values()]
    return [link for link in found if "://" not in link and not link.startswith(("mailto:", "data:"))]


def github_anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower())
    return kept.replace(" ", "-")


def site_anchor(heading: str) -> str:
    """The anchor that Python-Markdown gives a heading."""
    plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+?)\s*$", FENCE.sub("", text), re.MULTILINE)
