"""The site: every module has an API page, every equation is understood, and the build gives no warning."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pages
import pytest
import yaml
from pages import DOCS, ROOT, text_of


def hook(name: str) -> ModuleType:
    """A hook of the site."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "_site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def equations() -> list[str]:
    found = []
    for path in DOCS:
        text = pages.FENCE.sub("", text_of(path))
        found += re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
        found += re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
    return found


def test_equations_become_mathml() -> None:
    pytest.importorskip("latex2mathml")
    mathml = hook("mathml").mathml
    assert len(equations()) >= 60
    assert all(mathml(equation, block=True).startswith("<math") for equation in equations())
    with pytest.raises(ValueError, match="notacommand"):
        mathml(r"\notacommand{x}", block=False)


def test_every_public_module_has_an_api_page() -> None:
    api = hook("api")
    named = {name for folder in api.folders() for name in re.findall(r"^::: (\S+)$", api.page(folder), re.MULTILINE)}
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("lightning_gfn", "datamodules")
        for path in (ROOT / package).rglob("[!_]*.py")
    }
    assert len(found) >= 300 and named == found


def test_links_out_of_docs_become_pages_of_the_site() -> None:
    repository = hook("repository")
    text = "[a](../../experiments/math/sft.yaml) [b](../formats.md#x) [c](https://x.org)\n\n"
    text += "```\n[d](../../Makefile)\n```\n"
    turned = repository.with_site_links(text, "docs/objectives/gflownet.md")
    assert "[a](../repository/experiments/math/sft.yaml.md)" in turned and "[b](../formats.md#x)" in turned
    assert "[c](https://x.org)" in turned and "[d](../../Makefile)" in turned
    shown = repository.page_of("experiments/math/sft.yaml")
    assert "````yaml\n" in shown and text_of(ROOT / "experiments" / "math" / "sft.yaml") in shown
    assert "experiments/math/sft.yaml" in repository.linked_files({"docs/objectives/gflownet.md": text})


def test_the_navigation_holds_every_page() -> None:
    listed = re.findall(r"- (\S+\.md)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in DOCS[1:])


def test_nothing_is_fetched_from_other_servers() -> None:
    settings = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))
    assert settings["theme"]["font"] is False and "extra_javascript" not in settings and settings["strict"] is True
    for figure in (ROOT / "docs" / "figures").iterdir():
        assert not re.search(r"url\(.?http|href=\"http|@import", text_of(figure)), figure


def stray_lines(docstring: str) -> list[str]:
    """Lines of the sections of a docstring that neither name an item nor stand further in, as what belongs to one."""
    found = []
    for section in re.findall(r"^(?:Args|Raises):\n((?: +\S.*\n?|\n(?= ))+)", docstring, re.MULTILINE):
        lines = [line for line in section.splitlines() if line.strip()]
        depth = len(lines[0]) - len(lines[0].lstrip())
        items = [line for line in lines if len(line) - len(line.lstrip()) == depth]
        found += [line.strip() for line in items if not re.match(r" *[*\w.]+(?: \(.*\))?: ", line)]
    return found


def test_sections_of_docstrings_can_be_read() -> None:
    """A line that goes on stands further in than the item it belongs to; the site is not built otherwise."""
    sources = [path for package in ("lightning_gfn", "datamodules") for path in (ROOT / package).rglob("*.py")]
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    docstrings = {
        f"{path.relative_to(ROOT)}:{node.lineno}": ast.get_docstring(node) or ""
        for path in sources
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, kinds)
    }
    assert len(docstrings) >= 1000
    assert {place: stray for place, text in docstrings.items() if (stray := stray_lines(text))} == {}
    assert stray_lines("Do.\n\nRaises:\n    ValueError: a row is bad, or\n    there is none.\n") == ["there is none."]


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560)
    assert built.returncode == 0, built.stderr[-3000:]
    page = text_of(tmp_path / "site" / "objectives" / "gflownet" / "index.html")
    assert page.count("<math") >= 20 and "\\log" not in page
    assert 'id="lightning_gfn.objectives.vargrad.vargrad_loss"' in text_of(
        tmp_path / "site" / "api" / "lightning_gfn.objectives" / "index.html"
    )
    fetched = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', page)
    assert fetched == []
