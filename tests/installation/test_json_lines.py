"""Rows of JSON-lines files: places, blank lines, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gfn.installation.json_lines import JsonLinesError, json_lines, require_fields


def test_rows_stand_with_file_and_line_and_blank_lines_count(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": "é\u2028"}\n', encoding="utf-8")
    assert list(json_lines(path)) == [(f"{path}:1", {"a": 1}), (f"{path}:4", {"a": "é\u2028"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{', r"rows\.jsonl:2: not a line of JSON"),
        (b"[1]\n", r"rows\.jsonl:1: expected a JSON object, found list"),
        (b"\xff\n", r"rows\.jsonl: not UTF-8 \(invalid start byte at byte 0\)"),
        (b"[" * 100_000, r"rows\.jsonl:1: not a line of JSON"),
    ],
)
def test_what_is_no_row_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(JsonLinesError, match=message):
        list(json_lines(path))


def test_a_missing_field_is_named() -> None:
    require_fields({"a": None, "b": 0}, ("a", "b"), "f:1")
    with pytest.raises(JsonLinesError, match=r"f:1: no field 'b'; expected a, b and perhaps c"):
        require_fields({"a": 1, "c": 2}, ("a", "b"), "f:1", " and perhaps c")
