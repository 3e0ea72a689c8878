"""The same rows from every container, in one file or in shards; each fault with its file and line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.common.rows import BadRow, Row, read_rows
from datamodules.files.problem_file import ProblemFile

ROWS = [
    {"question": 'Say "a, b"\nand c.', "answer": "1,200"},
    {"question": "Wie viele Äpfel?", "answer": "0.50"},
    {"question": "Which?", "answer": "007"},
]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".jsonl": write_jsonl,
    ".json": write_json,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    plain = path.with_name(path.name.removesuffix(".gz"))
    WRITERS[plain.suffix](plain, rows)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


def pairs(data: ProblemFile, split: Any = "train") -> list[tuple[str, str | None]]:
    return [(problem.prompt, problem.answer) for problem in data.problems(split)]


EXPECTED = [(f"{row['question']}\n", row["answer"]) for row in ROWS]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz"])
def test_every_container_gives_the_same_problems(suffix: str, tmp_path: Path) -> None:
    data = ProblemFile(str(write(tmp_path / f"mine{suffix}", ROWS)), val_fraction=0)
    assert pairs(data) == EXPECTED
    assert [problem.id for problem in data.problems("train")] == ["own/train/0", "own/train/1", "own/train/2"]
    folder = tmp_path / "folder"
    for split in ("train", "test"):
        write(folder / f"{split}{suffix}", ROWS) if folder.is_dir() else folder.mkdir() or write(
            folder / f"{split}{suffix}", ROWS
        )
    assert pairs(ProblemFile(str(folder), val_fraction=0), "test") == EXPECTED


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("place", ["", "data"])
def test_shards_are_one_split(suffix: str, place: str, tmp_path: Path) -> None:
    folder = tmp_path / "a[1]" / place
    folder.mkdir(parents=True)
    write(folder / f"train-00000-of-00002{suffix}", ROWS[:2])
    second = write(folder / f"train-00001-of-00002{suffix}", ROWS[2:])
    write(folder / f"test-00000-of-00001{suffix}", ROWS[:1])
    data = ProblemFile(str(tmp_path / "a[1]"), val_fraction=0)
    assert pairs(data) == EXPECTED and pairs(data, "test") == EXPECTED[:1]
    ids = [problem.id for problem in data.problems("train")]
    assert ids == [
        "own/train/train-00000-of-00002",
        "own/train/train-00000-of-00002:1",
        "own/train/train-00001-of-00002",
    ]
    with pytest.warns(UserWarning, match="is one of 2 shards"):
        assert pairs(ProblemFile(str(second), val_fraction=0)) == EXPECTED[2:]
    second.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train-00001-of-00002\S* is missing: train-00000-of-00002\S* is one of 2"
    ):
        pairs(ProblemFile(str(tmp_path / "a[1]"), val_fraction=0))


def test_patterns_and_folders(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for i, row in enumerate(ROWS):
        write(tmp_path / "train" / f"part-{i}.jsonl", [row])
    (tmp_path / "train" / "notes.txt").write_text("nothing")
    for path in (tmp_path, tmp_path / "train" / "part-*.jsonl", tmp_path / "*" / "*.jsonl"):
        assert pairs(ProblemFile(str(path), val_fraction=0)) == EXPECTED
    with pytest.raises(FileNotFoundError, match=r"data\.test_path: .*none-\*\.csv does not exist"):
        ProblemFile(str(tmp_path), test_path=str(tmp_path / "none-*.csv"))


@pytest.mark.parametrize(("delimiter", "end"), [(",", "\n"), (";", "\r\n"), ("\t", "\n")])
def test_a_csv_file_divides_its_columns_by_what_its_first_line_has_most_of(
    tmp_path: Path, delimiter: str, end: str
) -> None:
    path = tmp_path / "rows.csv"
    rows = [
        ["No.", "question, in words", "answer; as a number"],
        ["1", "a, b; c\td?", "1,5"],
        ["2", 'say "so"\nor so?', "2"],
    ]
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator=end).writerows(rows)
    found = [row.fields for row in read_rows(path) if isinstance(row, Row)]
    assert found == [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    """A file that breaks in the middle gives the rows before it."""
    path = tmp_path / "rows.csv"
    path.write_text('question,answer\na,1\n"b\nc",2\nd,3,4\ne,5\n"f,6\n')
    rows = read_rows(path)
    found = [next(rows) for _ in range(4)]
    assert [row.where for row in found if isinstance(row, Row)] == [f"{path}:{line}" for line in (2, 3, 6)]
    assert str(found[2]) == f"{path}:5: has 3 cells, the first line names 2 columns"
    with pytest.raises(BadRow, match=r"rows\.csv:7: not CSV in UTF-8"):
        next(rows)


FAULTS = {
    "no parquet": ("x.parquet", b"PAR1 no", r"x\.parquet:1: not a Parquet file"),
    "no gzip": ("x.jsonl.gz", b"no", r"x\.jsonl\.gz:1: not a whole gzip file"),
    "half a gzip": ("x.jsonl.gz", gzip.compress(b'{"question": "a"}\n' * 9)[:-9], r"not a whole gzip file"),
    "no header": ("x.csv", b"a,,b\n1,2,3\n", r"x\.csv:1: the first line must name each column"),
    "Latin-1": ("x.csv", "question\nä\n".encode("latin-1"), r"x\.csv:\d: not CSV in UTF-8"),
    "half a pair": (
        "x.jsonl",
        b'{"question": "a", "answer": "1"}\n{"question": "a\\ud800b", "answer": "1"}\n',
        r"x\.jsonl:2: field 'question': character 1 is '\\ud800', half of a pair: no text in UTF-8",
    ),
    "half a pair, nested": ("x.json", b'[{"m": {"a": ["\\udfff"]}}]', r"x\.json:1: field 'm': character 0 is"),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_faults_name_file_and_line(case: tuple[str, bytes, str], tmp_path: Path) -> None:
    name, content, message = case
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        ProblemFile(str(tmp_path / name), val_fraction=0).problems("train")


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"question": "\\ud83c\\udf4e?", "answer": "1"}\n')
    assert ProblemFile(str(tmp_path / "x.jsonl"), val_fraction=0).problems("train")[0].prompt == "🍎?\n"
