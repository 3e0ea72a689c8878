"""MkDocs hook: pages for the files of the repository that the documentation links, so that every link stays inside.

Links in the Markdown files are those that work in a clone: relative to the file. On the site a Markdown file outside
``docs/`` is a page of its own, and any other file is a page that shows it.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
RESULTS = {
    "A notebook on the quickstart": "notebooks/tour.ipynb",
    "Every configuration": "experiments/README.md",
    "Mathematics, small models": "experiments/math/README.md",
    "Protocol of the comparison": "experiments/math/PROTOCOL.md",
    "Proofs in Lean": "experiments/lean/README.md",
    "Changes": "CHANGELOG.md",
    "Contributing": "CONTRIBUTING.md",
}
"""Titles and repository paths of the Markdown files outside docs/ that stand in the navigation."""
SHOWN_AS = {".py": "python", ".yaml": "yaml", ".json": "json", ".jsonl": "json", ".lean": "lean", ".txt": "text"}
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\(|^\[[^\]\n]+\]: |\bsrc=\")(?!data:)([^)\s#\"]+)", re.MULTILINE)


def site_path(path: str) -> str:
    """Where a file of the repository stands in the site's sources."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    target = ROOT / path
    if target.is_dir():
        readme = posixpath.join(path, "README.md")
        return site_path(readme) if (ROOT / readme).exists() else f"repository/{path}/files.md"
    return f"repository/{path}" if path.endswith((".md", ".png", ".svg")) else f"repository/{path}.md"


def repository_path(site: str) -> str:
    """The file of the repository that a page of the site shows."""
    if not site.startswith("repository/"):
        return f"docs/{site}"
    path = site.removeprefix("repository/")
    if path.endswith("/files.md"):
        return path.removesuffix("/files.md")
    return path if (ROOT / path).exists() else path.removesuffix(".md")


def local_links(text: str) -> list[str]:
    """Targets of the relative links of a page, code left out."""
    return [
        target for _, target in LINK.findall(FENCE.sub("", text)) if "://" not in target and "mailto:" not in target
    ]


def resolved(path: str, target: str) -> str:
    """The repository path that a link in a file leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def with_site_links(text: str, path: str) -> str:
    """The Markdown of a file with its links turned to the pages of the site."""
    here = posixpath.dirname(site_path(path))

    def turned(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or not (ROOT / resolved(path, target)).exists():
            return match[0]
        return match[1] + posixpath.relpath(site_path(resolved(path, target)), here or ".")

    parts, last = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(turned, text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, LINK.sub(turned, text[last:])])


def page_of(path: str) -> str:
    """Markdown of the page that shows a file or folder of the repository."""
    target = ROOT / path
    if target.is_dir():
        rows = [f"- [{child.name}]({child.name})" for child in sorted(target.iterdir()) if child.suffix in SHOWN_AS]
        return f"# `{path}/`\n\n" + with_site_links("\n".join(rows) + "\n", f"{path}/files.md")
    text = target.read_text(encoding="utf-8")
    if target.suffix == ".md":
        return text
    if target.suffix == ".ipynb":
        return notebook_page(text)
    body = text if text.endswith("\n") else text + "\n"
    return (
        f"---\nsearch: {{exclude: true}}\n---\n\n# `{path}`\n\n````{SHOWN_AS.get(target.suffix, 'text')}\n{body}````\n"
    )


def notebook_page(text: str) -> str:
    """Markdown of a notebook with the outputs that it is committed with."""
    parts: list[str] = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
            if "image/png" in data:
                parts.append(f"![Output of the cell above](data:image/png;base64,{data['image/png'].strip()})")
            elif "text/markdown" in data:
                parts.append(re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"*\1*", data["text/markdown"]))
            elif "text/html" in data:
                parts.append("\n".join(line for line in data["text/html"].splitlines() if line.strip()))
            else:
                shown = data.get("text/plain") or "".join(output.get("text", []))
                parts.append(f"```text\n{shown.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def linked_files(pages: dict[str, str]) -> set[str]:
    """Repository paths outside docs/ that pages link, and those that the linked Markdown files link in turn.

    Args:
        pages: Markdown by repository path.
    """
    found: set[str] = set()
    waiting = list(pages.items())
    while waiting:
        path, text = waiting.pop()
        for link in local_links(text):
            target = resolved(path, link)
            if target in found or target.startswith(("docs/", "..")) or not (ROOT / target).exists():
                continue
            found.add(target)
            if (ROOT / target).is_dir():
                names = [
                    child for child in (ROOT / target).iterdir() if child.suffix in SHOWN_AS or child.suffix == ".md"
                ]
                found |= {child.relative_to(ROOT).as_posix() for child in names if child.suffix != ".md"}
                readme = posixpath.join(target, "README.md")
                waiting += [(readme, (ROOT / readme).read_text("utf-8"))] if (ROOT / readme).exists() else []
            elif target.endswith(".md"):
                waiting.append((target, (ROOT / target).read_text(encoding="utf-8")))
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the results into the navigation."""
    for section in config.nav or []:
        if "Results" in section:
            section["Results"] = [{title: site_path(path)} for title, path in RESULTS.items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of linked files."""
    from mkdocs.structure.files import File

    pages = {f"docs/{file.src_uri}": Path(file.abs_src_path).read_text("utf-8") for file in files.documentation_pages()}
    roots = {path: (ROOT / path).read_text("utf-8") if path.endswith(".md") else "" for path in RESULTS.values()}
    for path in sorted({*linked_files(pages | roots), *roots}):
        name = site_path(path)
        if files.get_file_from_path(name) is not None:
            continue
        if path.endswith((".png", ".svg")):
            files.append(File.generated(config, name, abs_src_path=os.fspath(ROOT / path)))
        elif not ((ROOT / path).is_dir() and name.endswith("README.md")):
            files.append(File.generated(config, name, content=page_of(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page."""
    return with_site_links(markdown, repository_path(page.file.src_uri))
