"""MkDocs hook: one page of the API for each folder of the two packages, from the docstrings of its modules."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lightning_gfn", "datamodules")


def public_modules(folder: Path) -> list[Path]:
    """The modules of one folder whose name begins with no underscore."""
    return sorted(path for path in folder.glob("[!_]*.py"))


def folders() -> list[Path]:
    """The folders of both packages that hold public modules."""
    parts = [path for package in PACKAGES for path in (ROOT / package, *sorted((ROOT / package).rglob("*")))]
    return [path for path in parts if path.is_dir() and (path / "__init__.py").exists() and public_modules(path)]


def dotted(path: Path) -> str:
    """Import path of a module or package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def page_name(folder: Path) -> str:
    """The page of a folder."""
    return f"api/{dotted(folder)}.md"


def title(folder: Path) -> str:
    """What the navigation calls the page: the path below the package."""
    return dotted(folder).removeprefix("lightning_gfn.")


def page(folder: Path) -> str:
    """Markdown of a folder's page: what the package holds, and its modules."""
    about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    lines = [f"# `{dotted(folder)}`", "", about, ""]
    for module in public_modules(folder):
        lines += [f"## {module.stem}", "", f"::: {dotted(module)}", ""]
    return "\n".join(lines)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation."""
    for section in config.nav or []:
        if "API" in section:
            section["API"] = [{title(folder): page_name(folder)} for folder in folders()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    from mkdocs.structure.files import File

    for folder in folders():
        files.append(File.generated(config, page_name(folder), content=page(folder)))
    return files
