"""What the documentation says of methods, configurations and folders is so in the code."""

from __future__ import annotations

import importlib
import re

import pages
from pages import DOCS, ROOT, text_of

METHODS = ROOT / "docs" / "objectives" / "index.md"


def test_every_experiment_has_a_row() -> None:
    listed = text_of(ROOT / "experiments" / "README.md")
    files = sorted((ROOT / "experiments").rglob("*.yaml"))
    assert len(files) >= 16
    assert [path.name for path in files if f"]({path.relative_to(ROOT / 'experiments')})" not in listed] == []


def test_class_paths_are_those_of_the_code() -> None:
    text = "\n".join(map(text_of, DOCS))
    names = set(re.findall(r"\b(?:lightning_gfn|datamodules)(?:\.[a-z_0-9]+)+\.[A-Z]\w+", text))
    assert len(names) >= 15
    for name in names:
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name


def test_methods_and_paper_ids_are_those_of_the_code() -> None:
    text = text_of(METHODS)
    named = pages.definitions(text)
    rows = [row for row in text.splitlines() if row.startswith("|") and re.search(r"\[\w+\.py\] \| (?:\[|$)", row)]
    assert len(rows) == 26
    for row in rows:
        file, papers = re.search(r"\[(\w+\.py)\]", row)[1], re.findall(r"\[(\d+\.\d+)\]", row)
        assert named[file] == f"../../lightning_gfn/objectives/{file}", row
        assert all(named[paper] == f"https://arxiv.org/abs/{paper}" for paper in papers), row
        source = text_of(METHODS.parent / named[file])
        assert all(paper in source for paper in papers), row


def test_settings_that_the_pages_name_exist() -> None:
    """Words in code spans that look like fields of objectives are fields of one of their classes."""
    from lightning_gfn.interfaces import Objective

    sources = (ROOT / "lightning_gfn" / "objectives").glob("[!_]*.py")
    modules = [importlib.import_module(f"lightning_gfn.objectives.{path.stem}") for path in sources]
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    fields = {
        name for kind in kinds if issubclass(kind, Objective) for name in kind.__dict__.get("__annotations__", {})
    }
    spans = set(re.findall(r"`([a-z_]+): [^`]+`", "\n".join(map(text_of, METHODS.parent.glob("[!i]*.md")))))
    others = {"behaviour", "buffer", "resample", "top_k", "decay", "trainer", "level", "duplicates", "reward"}
    assert len(spans) >= 12
    assert spans - fields - others == set()


def test_the_map_of_contributing_names_what_exists() -> None:
    text = text_of(ROOT / "CONTRIBUTING.md")
    picture = re.search(r"!\[[^\]]+\]\((docs/\S+\.svg)\)", text)[1]
    drawn = re.findall(r'class="n">([a-z_/]+/)<', text_of(ROOT / picture))
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    assert len(rows) >= 25 and len(drawn) >= 15
    homes = (ROOT / "lightning_gfn", ROOT)
    for folder in drawn:
        assert any((home / folder).is_dir() for home in homes), f"{picture} names {folder}"
    for what, folder, files in rows[1:]:
        place = next(home / folder.strip("`…/").rstrip("/") for home in homes if (home / folder.strip("`…/")).is_dir())
        for name in re.findall(r"`([\w/]+)`", files):
            found = any((place / f"{name}{ending}").exists() for ending in ("", ".py", ".yaml"))
            assert found or (ROOT / name).is_dir(), f"{what}: {folder} has no {name}"
