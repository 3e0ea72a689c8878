"""Data files that are broken in some way, for every container and kind of rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

Make = Callable[[], bytes]
ROWS: dict[str, list[dict[str, Any]]] = {
    "problems": [
        {"question": f"{n} + {n}?", "solution": f"{n} + {n} = {2 * n}", "answer": str(2 * n)} for n in range(9)
    ],
    "messages": [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"The answer is: {n}"}]}
        for n in range(9)
    ],
    "preferences": [{"prompt": f"{n}?", "chosen": f"is {n}", "rejected": f"is {n + 1}"} for n in range(9)],
    "theorems": [{"name": f"t{n}", "statement": f": {n} = {n}", "context": [], "proof": "by\n  rfl"} for n in range(9)],
    "steps": [{"prompt": f"{n}?", "completions": [f"{n}", "so"], "labels": [True, n % 2 == 0]} for n in range(9)],
}  # fmt: skip
TEXT_COLUMN = {"problems": "question", "messages": "messages", "preferences": "chosen", "theorems": "statement",
               "steps": "prompt"}  # fmt: skip


def as_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_array(rows: list[Any]) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()} for row in rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


CONTAINERS: dict[str, Callable[[list[Any]], bytes]] = {
    "jsonl": as_lines,
    "json": as_array,
    "csv": as_csv,
    "parquet": as_parquet,
    "jsonl.gz": lambda rows: gzip.compress(as_lines(rows)),
    "csv.gz": lambda rows: gzip.compress(as_csv(rows)),
}
DEEP = "[" * 100_000 + "]" * 100_000
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank lines": lambda _: b"\n\n \n",
    "cut at a third": lambda content: content[: len(content) // 3],
    "cut by a byte": lambda content: content[:-1],
    "cut to four bytes": lambda content: content[:4],
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content + bytes(100),
    "a flipped bit in the middle": lambda content: flipped(content, len(content) // 2),
    "a flipped bit at the start": lambda content: flipped(content, 1),
    "UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "UTF-32": lambda content: content.decode("latin-1").encode("utf-32"),
    "latin-1": lambda content: content.replace(b"0", "é".encode("latin-1")),
    "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "two byte order marks": lambda content: b"\xef\xbb\xbf" * 2 + content,
    "twice": lambda content: content + content,
    "old Mac line ends": lambda content: content.replace(b"\n", b"\r"),
    "Windows line ends": lambda content: content.replace(b"\n", b"\r\n"),
    "another format": lambda _: b"PK\x03\x04 this is a zip file",
    "a web page": lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a pointer of Git LFS": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "a closing quote is missing": lambda content: content.replace(b'"', b"", 1),
    "a huge number": lambda content: content.replace(b":", b": " + b"9" * 10_000 + b", \"x\":", 1),
    "nested deeply": lambda content: content.replace(b":", b": " + DEEP.encode() + b', "x":', 1),
    "NaN": lambda content: content.replace(b":", b': NaN, "x":', 1),
    "a comma at the end": lambda content: content.replace(b"}", b",}", 1),
    "a comment": lambda content: b"// problems\n" + content,
    "a zero within": lambda content: content.replace(b"3", b"\x00", 1),
}  # fmt: skip
VALUES: dict[str, Any] = {
    "missing": ...,
    "null": None,
    "a number": 7,
    "an infinite number": 1e400,
    "true": True,
    "a list": ["a", 5],
    "an object": {"a": {"b": None}},
    "empty": "",
    "blank": " \n\t",
    "half of a pair": "x\ud800y",
    "zero": "a\x00b",
    "huge": "word " * 50_000,
}
WHOLE_ROWS: dict[str, Any] = {"null": None, "a list": [1], "a text": "row", "a number": 3, "nothing": {}}


def flipped(content: bytes, at: int) -> bytes:
    if at >= len(content):
        return content
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def cases() -> Iterator[tuple[str, str, str, Make]]:
    """Kind of rows, container, what is broken, and the bytes."""
    for kind, rows in ROWS.items():
        for container, write in CONTAINERS.items():
            flat = kind in ("problems", "preferences", "theorems")
            if container.startswith("csv") and not flat:
                continue
            for name, change in BYTES.items():
                yield kind, container, name, lambda change=change, write=write, rows=rows: change(write(rows))
        for name, value in VALUES.items():
            for container in ("jsonl", "json"):
                changed = {k: v for k, v in {**rows[4], TEXT_COLUMN[kind]: value}.items() if v is not ...}
                yield (
                    kind,
                    container,
                    f"{TEXT_COLUMN[kind]} {name}",
                    (lambda write=CONTAINERS[container], rows=[*rows[:4], changed, *rows[5:]]: write(rows)),
                )
        for name, value in WHOLE_ROWS.items():
            for container in ("jsonl", "json"):
                yield (
                    kind,
                    container,
                    f"a row is {name}",
                    (lambda write=CONTAINERS[container], rows=[*rows[:4], value, *rows[5:]]: write(rows)),
                )
