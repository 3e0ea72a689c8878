"""Figures on disk: one line of JSON for each logged set of metrics, and the same as a table."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_gfn.tracking.keys import clean_metrics
from lightning_gfn.whole_files import replace_text

Row = dict[str, Any]
MEASURED = re.compile(r"^time$|seconds|memory|per_second")


class DiskLogger(Logger):
    """Appends to ``metrics.jsonl`` and ``metrics.csv`` at every call, so that a kill loses nothing.

    Each row has ``step`` (optimiser steps finished before the batch), ``time`` (seconds since 1970) and the metrics;
    NaN and infinities are null (JSON) or empty (CSV). ``metrics.jsonl`` is the record; the table is rebuilt from it
    whenever a new column appears.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.columns: list[str] | None = None
        self.followers: list[Callable[[Row], None]] = []
        self.forgotten: list[Row] = []

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        return "disk"

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    @property
    def jsonl(self) -> Path:
        """The record of rows."""
        return self.folder / "metrics.jsonl"

    @property
    def csv(self) -> Path:
        """The same rows as a table."""
        return self.folder / "metrics.csv"

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row and hand it to the followers; a test repeated with the same outcome adds none."""
        row = new_row(metrics, step)
        if self.columns is None or is_of_test(row):
            known = self.rows()
            if self.columns is None:
                self.rewrite(known)
            latest = next((other for other in reversed(known) if is_of_test(other)), None)
            if is_of_test(row) and latest is not None and same_figures(row, latest):
                return
        row = next((former for former in self.forgotten if same_figures(row, former)), row)
        self.append(row)
        for follower in self.followers:
            follower(row)

    def append(self, row: Row) -> None:
        """Write a row at the end of both files."""
        assert self.columns is not None
        with self.jsonl.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if all(key in self.columns for key in row):
            with self.csv.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        else:
            self.write_table(self.rows())

    @rank_zero_only
    def resume_at(self, step: int, due: Row | None = None) -> None:
        """Bring the rows to where a checkpoint stands: training goes on from there and logs what came after it again.

        Rows of ``test`` measured at that step stay. A row that comes again with the same figures is the former one, its
        time included, so that a tracking server that had it already counts it once.

        Args:
            step: the step of the first row to come.
            due: the row that was to be logged when the checkpoint was saved; a kill in between has lost it.
        """
        rows = self.rows()
        kept = [row for row in rows if belongs_before(row, step)]
        self.forgotten = [row for row in rows if not belongs_before(row, step)]
        if due is not None and not any(row["step"] == due["step"] and row.keys() >= due.keys() for row in kept):
            place = next((i for i, row in enumerate(kept) if row["step"] == step), len(kept))
            kept.insert(place, due)
        if kept or self.jsonl.exists():
            self.rewrite(kept)

    @rank_zero_only
    def settle(self) -> None:
        """Have the disk keep the rows so far: a checkpoint that follows them must never survive without them."""
        if self.jsonl.exists():
            with self.jsonl.open("ab") as file:
                os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """All rows; a line that a kill cut in two is left out."""
        if not self.jsonl.exists():
            return []
        lines = self.jsonl.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if is_whole(line)]

    def rewrite(self, rows: list[Row]) -> None:
        """Replace both files."""
        replace_text(self.jsonl, "".join(json.dumps(row) + "\n" for row in rows))
        self.write_table(rows)

    def write_table(self, rows: Iterable[Row]) -> None:
        """Replace the table by one that has a column for everything ever logged."""
        rows = list(rows)
        self.columns = list(dict.fromkeys(["step", "time", *(key for row in rows for key in row)]))
        partial = self.csv.with_name(f"{self.csv.name}.{os.getpid()}.partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, self.csv)


def number(value: Any) -> float | int | None:
    """A JSON number, or None for what is not finite."""
    if isinstance(value, int):
        return value
    value = float(value)
    return value if math.isfinite(value) else None


def is_whole(line: str) -> bool:
    """True if the line is one JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def new_row(metrics: Mapping[str, float], step: int | None) -> Row:
    """A row of figures logged now."""
    row: Row = {"step": step, "time": round(time.time(), 3)}
    row.update((key, number(value)) for key, value in clean_metrics(metrics).items())
    return row


def is_of_test(row: Row) -> bool:
    """True if a row holds figures of a test."""
    return any(key.startswith("test/") for key in row)


def same_figures(row: Row, other: Row) -> bool:
    """True if two rows of a step differ in measured times and memory alone."""
    return row["step"] == other["step"] and without_measured(row) == without_measured(other)


def without_measured(row: Row) -> Row:
    """The figures that are the same whenever a run is repeated."""
    return {key: value for key, value in row.items() if MEASURED.search(key) is None}


def belongs_before(row: Row, step: int) -> bool:
    """True if a row stays when training goes on from ``step``."""
    if row["step"] is None or row["step"] < step:
        return True
    return bool(row["step"] == step) and is_of_test(row)
