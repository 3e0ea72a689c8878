"""Plain text as sentences, and stories as rows of five sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from datamodules.common.rows import BadRow, Row

STORY_END = "<|endoftext|>"
"""What stands between two stories of a text file."""
COLUMNS = tuple(f"sentence{number}" for number in range(1, 6))
OPENING = "opening"
"""Column that holds the first sentence of the story that a window was cut from."""
TITLES = frozenset({"Mr", "Mrs", "Ms", "Dr", "St"})
_END = re.compile(r"""[.!?]+["'\u201d\u2019)]*(?=\s+["'\u201c\u2018(]?[A-Z0-9]|\s*$)""")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, white space evened out.

    A sentence ends after ``.``, ``!`` or ``?`` and closing quotes, where a capital letter, a digit or nothing follows;
    the point of a title (``Mr.``) ends none. What stands behind the last mark is left out.
    """
    text = " ".join(text.split())
    found, start = [], 0
    for end in _END.finditer(text):
        word = text[start : end.start()].rpartition(" ")[2]
        if end.group() == "." and word.strip("\"'\u201c\u2018(") in TITLES:
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    return found


def story_windows(file: Path) -> Iterator[Row | BadRow]:
    """Rows ``sentence1`` to ``sentence5`` of a text file: each story cut into windows of five sentences, one by one.

    Args:
        file: UTF-8; stories are divided by ``<|endoftext|>``.

    Raises:
        BadRow: the file is not UTF-8.
    """
    for number, (line, story) in enumerate(_stories(file)):
        sentences = split_sentences(story)
        for window, start in enumerate(range(0, len(sentences) - 4, 5)):
            fields = dict(zip(COLUMNS, sentences[start : start + 5], strict=True))
            yield Row(f"{file}:{line}", f"{number}:{window}", {**fields, OPENING: sentences[0]})


def _stories(file: Path) -> Iterator[tuple[int, str]]:
    """Each story with the line that it begins in, read line by line."""
    number, first, lines = 0, 1, list[str]()
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                before, mark, behind = line.partition(STORY_END)
                lines.append(before)
                if mark:
                    yield first, "".join(lines)
                    first, lines = number + (not behind.strip()), [behind]
    except UnicodeDecodeError as error:
        raise BadRow(f"{file}:{number + 1}", None, f"not UTF-8: {error}") from error
    yield first, "".join(lines)
