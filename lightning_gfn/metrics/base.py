"""The common ground of all metrics: one row of values a problem, merged exactly over processes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from lightning_gfn.types import EvalRecord


class PerProblemMetric(Metric):
    """Means over problems of one or more values that each problem has.

        value(key) = mean of the problem's value over the problems that have one

    The state keeps every problem's row together with its id, so that merging over processes is a concatenation: a
    problem that several processes saw, because a sampler padded the last batch, counts once, and the result does not
    depend on how problems were dealt out. All samples must be of one sampling temperature; use one metric for each.
    """

    full_state_update: bool | None = False
    is_differentiable: bool | None = False

    judges: bool = False
    """True if values come from verdicts on samples, so that a problem whose samples nothing judges has none."""

    values: list[Tensor]
    id_bytes: list[Tensor]
    id_lengths: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("values", "id_bytes", "id_lengths"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._temperature: float | None = None

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Names of the values of one problem, without a stage prefix."""

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the values stand for, which compared runs must share: the keys, and settings that keys do not show."""
        return self.keys

    @abstractmethod
    def row(self, record: EvalRecord) -> Sequence[float]:
        """One value a key for one problem; NaN where the problem has none (it is left out of that mean)."""

    def sample_labels(self, record: EvalRecord) -> dict[str, list[str | None]]:
        """Labels of the samples that pages show beside them, one a sample, by what they label; none by default."""
        return {}

    def pooled(self, values_PK: NDArray[np.float64]) -> dict[str, float]:
        """Figures of all problems together that are no means over problems, by key; none by default.

        Args:
            values_PK: the value of each problem and key, NaN where there is none.
        """
        return {}

    def update(self, record: EvalRecord) -> None:
        """Take in the samples of one problem.

        Args:
            record: samples of one problem at one temperature.

        Raises:
            ValueError: if the record has no samples, or another temperature than earlier ones.
        """
        if not record.completions:
            raise ValueError(f"problem {record.problem.id!r}: the record has no samples")
        if self._temperature is not None and record.temperature != self._temperature:
            raise ValueError(
                f"problem {record.problem.id!r}: temperature {record.temperature} after {self._temperature}; "
                "use one metric for each temperature"
            )
        self._temperature = record.temperature
        encoded = record.problem.id.encode()
        row = [math.nan] * len(self.keys) if self.judges and not record.is_judged else self.row(record)
        self.values.append(torch.tensor([row], dtype=torch.float64, device=self.device))
        self.id_bytes.append(torch.tensor(list(encoded), dtype=torch.uint8, device=self.device))
        self.id_lengths.append(torch.tensor([len(encoded)], dtype=torch.int64, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """Means over problems by key; a key that no problem has a value for is left out."""
        rows = list(self._rows().values())
        means: dict[str, Tensor] = {}
        for position, key in enumerate(self.keys):
            present = [row[position] for row in rows if not math.isnan(row[position])]
            if present:
                means[key] = torch.tensor(math.fsum(present) / len(present), dtype=torch.float64, device=self.device)
        return means

    def per_problem(self) -> dict[str, dict[str, float]]:
        """Values by problem id (sorted) and key, of all processes; every process must call it.

        Returns:
            A dict of dicts; NaN values are left out.
        """
        with self.sync_context(should_sync=not self._is_synced, should_unsync=not self._is_synced):
            rows = self._rows()
        return {
            problem_id: {key: value for key, value in zip(self.keys, row, strict=True) if not math.isnan(value)}
            for problem_id, row in rows.items()
        }

    def reset(self) -> None:
        """Forget all problems."""
        super().reset()
        self._temperature = None

    def _rows(self) -> dict[str, list[float]]:
        """Rows by problem id, sorted; the first of equal ids counts."""
        values, id_bytes, id_lengths = self._states()
        encoded = bytes(id_bytes.tolist())
        rows: dict[str, list[float]] = {}
        start = 0
        for length, row in zip(id_lengths.tolist(), values.tolist(), strict=True):
            rows.setdefault(encoded[start : start + length].decode(), row)
            start += length
        return dict(sorted(rows.items()))

    def _states(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three states as one tensor each, of the right shape and type when there is no problem."""
        empty = torch.zeros((0, len(self.keys)), dtype=torch.float64, device=self.device)
        defaults = (empty, empty.new_zeros(0, dtype=torch.uint8), empty.new_zeros(0, dtype=torch.int64))
        states = (self.values, self.id_bytes, self.id_lengths)
        tensors = [torch.cat(list(state)) if isinstance(state, list | tuple) and state else state for state in states]
        first, second, third = (
            tensor if isinstance(tensor, Tensor) else default for tensor, default in zip(tensors, defaults, strict=True)
        )
        return first, second, third

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process without problems must take part in the gathering with tensors of the types that the others send.
        self.values, self.id_bytes, self.id_lengths = ([state] for state in self._states())
        super()._sync_dist(*args, **kwargs)
