"""Diversity by classes of solutions: how many ways of solving the correct samples hold, and how evenly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.classes import cover_area, cover_at_k, effective_classes, uniform_distance
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import EvalRecord

DEFAULT_KS = tuple(2**power for power in range(11))


class ClassDiversity(PerProblemMetric):
    """Classes among the correct samples of each problem, by any map from completions to classes.

    With the map's name behind them, the keys are ``distinct_classes``, the number of classes, and
    ``effective_classes``, exp of the entropy of their shares, both 0 where no sample is correct and ``…_solved`` over
    problems with a correct sample; ``cover_at_k``, the expected number of classes among k of the n samples, right or
    wrong, drawn without replacement; ``cover_area``, the area under it as a share of the largest possible one; and
    where the problem knows its solutions ``class_total_variation``, the distance of the classes' shares from equal
    shares of the known classes, over problems with a correct sample in a class. Correct samples that belong to no class
    count as samples alone.

    Args:
        classes: says which completions are solved the same way.
        ks: of cover@k; values above the number of samples are left out.

    Raises:
        ValueError: a k is below 1 or stands twice.
    """

    judges = True

    def __init__(self, classes: SolutionClasses, ks: Sequence[int] = DEFAULT_KS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
            raise ValueError(f"ks: need different whole numbers of at least 1, not {list(ks)}")
        self.classes, self.ks = classes, tuple(ks)
        self._last: tuple[EvalRecord, list[str | None]] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        name = self.classes.name
        counts = (f"distinct_classes_{name}", f"effective_classes_{name}")
        covers = (*(f"cover_at_{k}_{name}" for k in self.ks), f"cover_area_{name}")
        return (*counts, *(f"{key}_solved" for key in counts), *covers, f"class_total_variation_{name}")

    @property
    def meaning(self) -> tuple[str, ...]:
        """The values depend on the class map alone, whose settings its name may not show."""
        return (f"classes {self.classes.meaning}, cover at {', '.join(map(str, self.ks))}",)

    def row(self, record: EvalRecord) -> Sequence[float]:
        found = [label for label in self.labels_of(record) if label is not None]
        sizes, total = list(Counter(found).values()), len(record.completions)
        counts = [float(len(sizes)), effective_classes(sizes)]
        solved = counts if any(record.correct) else [math.nan] * len(counts)
        covers = [cover_at_k(total, sizes, k) if k <= total else math.nan for k in self.ks]
        return [*counts, *solved, *covers, cover_area(total, sizes), self._uniform_distance(record, found)]

    def sample_labels(self, record: EvalRecord) -> dict[str, list[str | None]]:
        """The class of each sample; None for wrong ones."""
        return {self.classes.name: self.labels_of(record)} if record.is_judged else {}

    def labels_of(self, record: EvalRecord) -> list[str | None]:
        """The class of each correct sample, given to the map together; None for wrong ones."""
        if self._last is None or self._last[0] is not record:
            right = [text for text, correct in zip(record.completions, record.correct, strict=True) if correct]
            labels = iter(self.classes.labels(record.problem, right))
            self._last = record, [next(labels) if correct else None for correct in record.correct]
        return self._last[1]

    def _uniform_distance(self, record: EvalRecord, found: Sequence[str]) -> float:
        """NaN where the known solutions have no classes that compare with those of the samples."""
        if not self.classes.is_pointwise or record.problem.solution_set is None:
            return math.nan
        known = self.classes.labels(record.problem, list(record.problem.solution_set))
        return uniform_distance(found, {label for label in known if label is not None})

    def reset(self) -> None:
        """Forget all problems."""
        super().reset()
        self._last = None
