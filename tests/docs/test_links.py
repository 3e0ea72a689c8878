"""Every link of the documentation leads somewhere, in a clone and on the site."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest
from pages import DOCS, PAGES, ROOT, name_of, text_of


def faults(path: Path, text: str) -> list[str]:
    """Links of a page that lead to no file, to no heading, or out of the repository."""
    found = []
    for link in pages.links(text):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or not target.is_relative_to(ROOT):
            found.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md":
            titles = pages.headings(text if target == path else text_of(target))
            for kind in (pages.github_anchor, pages.site_anchor):
                if anchor not in map(kind, titles):
                    found.append(f"{link}: no such heading ({kind.__name__})")
    return found


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    assert faults(path, text_of(path)) == []


def test_there_are_links() -> None:
    assert sum(len(pages.links(text_of(path))) for path in DOCS) >= 150


@pytest.mark.parametrize(
    "link", ["[a](docs/nowhere.md)", "[a](docs/metrics.md#nothing)", "[a](../x.md)", "[a][b]\n\n[b]: docs/no.md"]
)
def test_a_dead_link_is_noticed(link: str) -> None:
    assert len(faults(ROOT / "README.md", f"# Title\n\nSee {link}\n")) >= 1


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_reference_links_are_defined(path: Path) -> None:
    bare = pages.prose(text_of(path))
    named = pages.definitions(bare)
    assert set(re.findall(r"\]\[([^\]\n]+)\]", bare)) <= set(named)
    assert set(re.findall(r"\[([^\]\n]+\.py|\d+\.\d+|\w+/\w+)\](?![(:\]])", bare)) <= set(named)


def test_pictures_say_what_they_show() -> None:
    shown = [(path, text) for path in PAGES for text in re.findall(r"!\[([^\]]*)\]", pages.prose(text_of(path)))]
    assert len(shown) >= 8
    assert [path for path, text in shown if len(text) < 15] == []


def test_every_page_of_the_docs_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            targets = [(path.parent / link.partition("#")[0]).resolve() for link in pages.links(text_of(path))]
            waiting += [target for target in targets if target.suffix == ".md" and target.exists()]
    assert {name_of(path) for path in DOCS if path not in reached} == set()
