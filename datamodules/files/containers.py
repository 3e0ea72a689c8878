"""Records of JSON, JSON lines, CSV and Parquet files, one at a time, each with its line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

CONTAINERS = (".jsonl", ".json", ".csv", ".parquet")
COMPRESSED = ".gz"
SUFFIXES = (*CONTAINERS, *(name + COMPRESSED for name in CONTAINERS if name != ".parquet"))
"""Endings of the files that can be read; Parquet has a compression of its own."""
TEXT = ".txt"
"""Ending of plain text: a record a line, its column ``text``. Within a folder such files may be notes."""
LARGEST_CELL = 2**31 - 1
BATCH = 1024


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be read, though those after it can.

    Args:
        reason: what is wrong with it.
    """

    reason: str


class BrokenFile(ValueError):
    """A file whose further records cannot be read.

    Args:
        line: where it breaks.
        reason: what is wrong with it.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def suffix_of(file: Path) -> str | None:
    """Which of ``SUFFIXES`` a file has, or that of plain text; None if none."""
    known = sorted((*SUFFIXES, TEXT), key=len, reverse=True)
    return next((suffix for suffix in known if file.name.endswith(suffix)), None)


def records(file: Path) -> Iterator[tuple[int, Any]]:
    """(line, value) of each record of a file, line by line where the container allows it.

    A value is a ``BadRecord`` where one record alone is broken. The lines of a Parquet file are its rows. Cells of a
    CSV file are texts, empty ones None. A line of plain text is the column ``text`` of a record; empty lines are none.

    Raises:
        BrokenFile: the file cannot be read any further.
    """
    suffix = suffix_of(file)
    if suffix is None:
        raise BrokenFile(1, f"the name must end in {', '.join((*SUFFIXES, TEXT))}")
    if suffix == ".parquet":
        yield from _parquet(file)
        return
    require_file(file)
    container = suffix.removesuffix(COMPRESSED)
    found = False
    try:
        with gzip.open(file, "rb") if suffix.endswith(COMPRESSED) else file.open("rb") as stream:
            readable = io.BufferedReader(stream)
            refuse_other_encodings(readable.peek(4)[:4])
            for record in {".csv": _csv, ".json": _json, ".jsonl": _lines, TEXT: _texts}[container](readable):
                found = True
                yield record
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BrokenFile(1, f"not a whole gzip file: {error}") from error
    except OSError as error:
        raise BrokenFile(1, f"cannot be read: {error.strerror or error}") from error
    if not found:
        raise BrokenFile(1, "the file is empty: it holds no rows")


def require_file(file: Path) -> None:
    """Refuse what would block, such as a pipe.

    Raises:
        BrokenFile: it is no regular file.
    """
    if not file.is_file():
        raise BrokenFile(1, "it is no file that can be read, but a folder, a pipe or a broken link")


def refuse_other_encodings(start: bytes) -> None:
    """Refuse a file that begins with the mark of UTF-16 or UTF-32.

    Raises:
        BrokenFile: names the encoding and how to change it.
    """
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        name = "UTF-32" if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE) else "UTF-16"
        raise BrokenFile(1, f"the file is in {name}, expected UTF-8: iconv -f {name} -t UTF-8 converts it")


def parsed(text: str) -> Any:
    """A JSON value.

    Raises:
        ValueError: it is none, is nested too deeply, or holds a number of too many digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(f"a number has too many digits ({error})") from error


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    line = 1
    try:
        with ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=BATCH):
                for record in batch.to_pylist():
                    yield line, record
                    line += 1
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        raise BrokenFile(line, f"not a Parquet file that can be read: {error}") from error


def _csv(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LARGEST_CELL)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    line = 1
    try:
        first = text.readline()
        reader = csv.reader(chain([first], text), delimiter=delimiter_of(first), strict=True)
        header = next(reader, [])
        if len(set(header)) < len(header) or "" in header:
            raise BrokenFile(1, f"the first line must name each column, and each once, found {header!r:.200}")
        line = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(header):
                yield line, {name: cell if cell else None for name, cell in zip(header, cells, strict=True)}
            elif cells:
                yield line, BadRecord(f"has {len(cells)} cells, the first line names {len(header)} columns")
            line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise BrokenFile(line, f"not CSV in UTF-8: {error}") from error


def delimiter_of(header: str) -> str:
    """What divides the columns of a CSV file: comma, semicolon or tab, whichever its first line has most of.

    Args:
        header: first line of the file; what stands in quotation marks does not count.
    """
    return max(",;\t", key=re.sub(r'"[^"]*"?', "", header).count)


def _json(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """An array, one object, or (under the wrong name) JSON lines."""
    content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenFile(1, f"not UTF-8: {error}") from error
    start = text.lstrip()[:1]
    if start == "[":
        yield from _array(text)
        return
    if start == "{":
        try:
            value = parsed(text)
        except json.JSONDecodeError:
            pass  # several objects: JSON lines under the suffix .json
        except ValueError as error:
            raise BrokenFile(1, f"not JSON that can be read: {error}") from error
        else:
            yield 1, value
            return
    yield from _lines(io.BytesIO(content))


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(stream, start=1):
        if not content.strip():
            continue
        try:
            yield line, parsed(content.decode("utf-8-sig" if line == 1 else "utf-8"))
        except ValueError as error:
            yield line, BadRecord(f"not a line of JSON: {error}")


def _texts(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(stream, start=1):
        try:
            text = content.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield line, BadRecord(f"not UTF-8: {error}")
            continue
        if text.strip():
            yield line, {"text": text}


def _array(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a JSON array with the line that each begins in."""
    decoder = json.JSONDecoder()
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        position = _skip_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
            position = _skip_space(text, position)
            if text[position : position + 1] not in (",", "]"):
                raise json.JSONDecodeError("expected ',' or ']' after an element", text, position)
        except RecursionError:
            raise BrokenFile(line, "the element that begins here is nested too deeply") from None
        except json.JSONDecodeError as error:
            reason = f"the JSON array is broken here ({error.msg}), so rows after it cannot be read"
            raise BrokenFile(error.lineno, reason) from error
        except ValueError as error:
            raise BrokenFile(line, f"a number of the element that begins here has too many digits ({error})") from error
        yield line, value
        position += text[position] == ","


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
