"""Figures on disk: one line of JSON for each logged set of metrics, and the same as a table."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_gfn.tracking.keys import clean_metrics
from lightning_gfn.whole_files import replace_text

Row = dict[str, Any]


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
        """Append one row."""
        if self.columns is None:
            self.rewrite(self.rows())
            assert self.columns is not None
        row: Row = {"step": step, "time": round(time.time(), 3)}
        row.update((key, number(value)) for key, value in clean_metrics(metrics).items())
        with self.jsonl.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if all(key in self.columns for key in row):
            with self.csv.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)
        else:
            self.write_table(self.rows())

    @rank_zero_only
    def resume_at(self, step: int) -> None:
        """Forget what was logged beyond a checkpoint: training that goes on from optimiser step ``step`` logs it again.

        Rows of ``test`` measured at that step stay.
        """
        if self.jsonl.exists():
            self.rewrite([row for row in self.rows() if belongs_before(row, step)])

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


def belongs_before(row: Row, step: int) -> bool:
    """True if a row stays when training goes on from ``step``."""
    if row["step"] is None or row["step"] < step:
        return True
    return row["step"] == step and any(key.startswith("test/") for key in row)
