"""Every metric key that modules and callbacks log is one that MLflow accepts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_gfn.tracking.keys import STAGES, check_metric_key

ROOT = Path(__file__).resolve().parents[1]
LOGGING_CALLS = {"log", "log_dict", "log_metrics"}
KEY_LIKE = re.compile(rf"(?:{'|'.join(STAGES)})/")
HOLE = "x1"


def text_of(node: ast.expr) -> str | None:
    """A string literal, or an f-string with every hole filled; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values]
        return "".join(parts)
    return None


def stage_filled(node: ast.expr) -> str | None:
    """The same, where a hole in front of the first slash stands for a stage."""
    text = text_of(node)
    if text is not None and isinstance(node, ast.JoinedStr) and text.startswith(f"{HOLE}/"):
        return "train" + text[len(HOLE) :]
    return text


def keys_in(source: str) -> Iterator[tuple[str, int]]:
    """Literal keys with their lines: arguments and dict keys of logging calls, and anything that looks like a key."""
    tree = ast.parse(source)
    pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOGGING_CALLS:
            for argument in node.args[:1]:
                named = argument.keys if isinstance(argument, ast.Dict) else [argument]
                for candidate in named:
                    if candidate is not None and (text := stage_filled(candidate)) is not None:
                        yield text, node.lineno
        elif isinstance(node, ast.DictComp):
            if (text := stage_filled(node.key)) is not None and "/" in text:
                yield text, node.lineno
        elif isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in pieces:
            text = text_of(node)
            if text is not None and KEY_LIKE.match(text) and not re.search(r"\s", text):
                yield text, node.lineno


def sources() -> list[Path]:
    return sorted([*ROOT.glob("lightning_gfn/modules/*.py"), *ROOT.glob("lightning_gfn/callbacks/*.py")])


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_literal_keys_are_valid(path: Path) -> None:
    for key, line in keys_in(path.read_text()):
        try:
            check_metric_key(key)
        except ValueError as error:
            pytest.fail(f"{path.relative_to(ROOT)}, line {line}: {error}")


def test_keys_are_found_at_all() -> None:
    found = {key for path in sources() for key, _ in keys_in(path.read_text())}
    assert len(found) >= 5, found


@pytest.mark.parametrize(
    "source",
    [
        'self.log("loss", x)',
        'self.log("test/pass@8", x)',
        'self.log_dict({"train/logP(s)": 1})',
        'self.log(f"{stage}/solve rate", x)',
        'self.log_dict({f"{stage}/{name}@": value for name in names})',
        'KEYS = ["test/maj@8"]',
    ],
)
def test_planted_bad_keys_are_caught(source: str) -> None:
    keys = [key for key, _ in keys_in(source)]
    assert keys
    with pytest.raises(ValueError, match="metric key"):
        for key in keys:
            check_metric_key(key)


def test_good_keys_in_every_form_pass() -> None:
    lines = (
        'self.log("train/loss", x)',
        'self.log_dict({f"{stage}/{name}": v for name in y})',
        'self.log(f"budget/{x}", z)',
    )
    keys = [key for key, _ in keys_in("\n".join(lines))]
    assert len(keys) >= 3
    for key in keys:
        check_metric_key(key)
