"""Probabilities of classes counted on samples of the reference that were drawn beforehand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.installation.json_lines import json_lines, require_fields
from lightning_gfn.interfaces import Policy
from lightning_gfn.rewards.class_targets.probabilities import ClassProbabilities
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("problem_id", "completion", "correct")


class CountedProbabilities(ClassProbabilities):
    """Counted on n samples of the reference a problem, smoothed.

        P̂_ref(κ | x) = (c_κ + s) / (n + s · (K + 1))

    c_κ of the n samples are right and of class κ, K different classes were found; a class that was not found has the
    share of s alone. ``lightning-gfn predict`` with the model that the run starts from, at temperature 1 and
    ``data.predict_split train``, writes the samples.

    Args:
        path: ``predictions.jsonl`` of that run: rows with ``problem_id``, ``completion`` and ``correct``.
        smoothing: s, at least 0; at 0 classes that were not found are impossible, and meet the floor of the reward.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ``smoothing`` is negative, or a row lacks a column.
    """

    term = "log_p_class"

    def __init__(self, path: str, smoothing: float = 0.5) -> None:
        if not (math.isfinite(smoothing) and smoothing >= 0.0):
            raise ValueError(f"reward.probabilities.smoothing is {smoothing}, expected a number of at least 0")
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"reward.probabilities.path: {path} does not exist; lightning-gfn predict writes such a file "
                "(predictions/predictions.jsonl of its run)"
            )
        self.path, self.smoothing = path, smoothing
        self.samples: dict[str, list[tuple[str, bool]]] | None = None
        self.counts: dict[str, tuple[Counter[str], int]] = {}

    def read(self) -> dict[str, list[tuple[str, bool]]]:
        """The samples of each problem, read once."""
        if self.samples is None:
            self.samples = {}
            for where, row in json_lines(Path(self.path)):
                require_fields(row, COLUMNS, where)
                self.samples.setdefault(row["problem_id"], []).append((row["completion"], bool(row["correct"])))
        return self.samples

    def try_on(self, problem: Problem) -> None:
        """Refuse samples of other problems."""
        if problem.id not in self.read():
            raise ValueError(
                f"reward.probabilities.path: {self.path} has no samples of the training problem {problem.id!r}: draw "
                "them from the training problems of this data (data.predict_split train)"
            )

    def prepare(self, problems: Iterable[Problem], policy: Policy, classes: SolutionClasses, device: Any) -> None:
        """Count the classes of problems that were not counted yet."""
        for problem in problems:
            if problem.id in self.counts:
                continue
            self.try_on(problem)
            drawn = self.read()[problem.id]
            labels = classes.labels(problem, [text for text, correct in drawn if correct])
            self.counts[problem.id] = Counter(label for label in labels if label is not None), len(drawn)

    def values(self, problem: Problem, labels: Sequence[str | None]) -> list[float]:
        """log P̂_ref of each class."""
        found, num_samples = self.counts[problem.id]
        whole = num_samples + self.smoothing * (len(found) + 1)
        shares = [(found[label] + self.smoothing) / whole if label is not None else 1.0 for label in labels]
        return [math.log(share) if share > 0.0 else -1e30 for share in shares]

    def log_probs(self, values: Tensor, rollouts: Rollouts) -> Tensor:
        """The term itself."""
        return values
