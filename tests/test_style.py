"""The form of the files: length of lines, size of folders and files, docstrings of packages."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 120
MOST_MODULES = 14
LONG_FILE = 400
SUFFIXES = {".md", ".py", ".yaml", ".yml"}
NOT_OURS = {
    ".git",
    ".venv",
    "venv",
    "build",
    "dist",
    "runs",
    "mlruns",
    "lightning_logs",
    "site",
    "node_modules",
    "__pycache__",
}
PACKAGES = ("lightning_gfn", "datamodules")
LONE_ADDRESS = re.compile(r"\s*(?:\[[^\]]+\]: |# |- |<)?https?://\S+")


def texts() -> list[Path]:
    """Every Markdown, Python and YAML file of the repository."""
    folders = [path for path in ROOT.iterdir() if path.name not in NOT_OURS]
    files = [path for folder in folders for path in (folder.rglob("*") if folder.is_dir() else [folder])]
    found = [path for path in files if path.suffix in SUFFIXES and not NOT_OURS & set(path.parts[len(ROOT.parts) :])]
    return sorted(path for path in found if not path.is_symlink())


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def overlong(text: str) -> list[int]:
    """Numbers of the lines of more than 120 characters; an address alone on its line cannot be broken and may stay."""
    lines = enumerate(text.splitlines(), start=1)
    return [number for number, line in lines if len(line) > WIDTH and LONE_ADDRESS.fullmatch(line) is None]


def test_no_line_is_longer_than_120_characters() -> None:
    files = texts()
    assert len(files) > 500 and {path.suffix for path in files} >= {".md", ".py", ".yaml"}
    found = {str(path.relative_to(ROOT)): overlong(path.read_text(encoding="utf-8")) for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("x" * WIDTH, False),
        ("x" * (WIDTH + 1), True),
        ("ü" * WIDTH, False),
        ("[name]: https://example.org/" + "x" * WIDTH, False),
        ("see https://example.org/" + "x" * WIDTH, True),
        ("| a | " + "b" * WIDTH + " |", True),
    ],
)
def test_what_counts_as_too_long(line: str, fault: bool) -> None:
    assert overlong(f"short\n{line}\n") == ([2] if fault else [])


def test_folders_hold_at_most_fourteen_modules() -> None:
    count = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert len(count) >= 20
    full = {str(folder.relative_to(ROOT)): number for folder, number in count.items() if number > MOST_MODULES}
    assert full == {}


def ask_of_long_files(paths: Iterable[Path]) -> None:
    """Such a file may be one thought all the same: a warning asks, it does not fail."""
    for path in paths:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONG_FILE:
            warnings.warn(f"{path} has {lines} lines: still one thought?", stacklevel=1)


def test_files_above_400_lines_are_named(tmp_path: Path) -> None:
    ask_of_long_files(modules())
    short, long = tmp_path / "short.py", tmp_path / "long.py"
    short.write_text("x = 1\n" * LONG_FILE)
    long.write_text("x = 1\n" * (LONG_FILE + 1))
    with pytest.warns(UserWarning) as asked:
        ask_of_long_files([short, long])
    assert [str(warning.message) for warning in asked] == [f"{long} has {LONG_FILE + 1} lines: still one thought?"]


def test_every_package_says_in_one_line_what_it_holds() -> None:
    folders = {path.parent for path in modules()}
    folders |= {folder for path in modules() for folder in path.parents if ROOT in folder.parents}
    wrong = []
    for folder in sorted(folders):
        path = folder / "__init__.py"
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
        if docstring is None or len(docstring.splitlines()) != 1:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []
