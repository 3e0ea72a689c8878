"""Reading JSON rows: every layout of file, and the file and line in every complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.common.rows import BadRow, Row, read_rows
from datamodules.files.locations import find_split


def lines_of(path: Path) -> list[int]:
    return [
        int(str(row.where if isinstance(row, Row) else row).removeprefix(f"{path}:").split(":")[0])
        for row in read_rows(path)
    ]


def test_json_lines_report_broken_lines_and_go_on(fixtures: Path) -> None:
    path = fixtures / "malformed" / "rows.jsonl"
    rows = list(read_rows(path))
    assert lines_of(path) == [1, 2, 3, 5, 6, 7, 8]
    bad = {str(row).removeprefix(f"{path}:") for row in rows if isinstance(row, BadRow)}
    assert len(bad) == 2
    assert any(text.startswith("2: not a line of JSON") for text in bad)
    assert any(text.startswith("7: expected a JSON object, found list") for text in bad)


def test_row_keys_do_not_depend_on_skipped_rows(fixtures: Path) -> None:
    keys = [row.key for row in read_rows(fixtures / "malformed" / "rows.jsonl") if isinstance(row, Row)]
    assert keys == ["0", "2", "3", "4", "6"]


def test_array_elements_know_their_lines(fixtures: Path) -> None:
    assert lines_of(fixtures / "malformed" / "array.json") == [2, 4, 5]


def test_a_broken_array_names_the_line(fixtures: Path) -> None:
    path = fixtures / "malformed" / "broken_array.json"
    with pytest.raises(BadRow, match=r"broken_array\.json:3: the JSON array is broken"):
        list(read_rows(path))


def test_wrong_encoding_is_one_bad_line(fixtures: Path) -> None:
    rows = list(read_rows(fixtures / "malformed" / "latin1.jsonl"))
    assert isinstance(rows[0], Row)
    assert isinstance(rows[1], BadRow)
    assert "latin1.jsonl:2" in str(rows[1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("array.json", '\ufeff [{"a": 1}, {"a": 2}\n]'),
        ("lines.jsonl", '\ufeff{"a": 1}\n\n{"a": 2}'),
        ("lines.json", '{"a": 1}\r\n{"a": 2}\r\n'),
        ("separators.jsonl", '{"a": 1, "b": "x\u2028y"}\n{"a": 2}\n'),
    ],
)
def test_layouts_hold_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    rows = list(read_rows(path))
    assert [row.fields["a"] for row in rows if isinstance(row, Row)] == [1, 2]
    assert [row.key for row in rows if isinstance(row, Row)] == ["0", "1"]


def test_a_folder_is_one_object_a_file(fixtures: Path) -> None:
    rows = [row for row in read_rows(fixtures / "math" / "train") if isinstance(row, Row)]
    assert [row.key for row in rows] == ["algebra/1", "algebra/10", "number_theory/2"]


@pytest.mark.parametrize(("found", "split"), [("train.jsonl", "train"), ("dev.json", "val"), ("validation", "val")])
def test_split_names(tmp_path: Path, found: str, split: str) -> None:
    (tmp_path / found).mkdir()
    assert find_split(tmp_path, split) == tmp_path / found
    assert find_split(tmp_path, "test") is None
