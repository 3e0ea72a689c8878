"""Diversity metrics count the different correct solutions among the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lightning_gfn.answers.equation_normal_form import equations
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional.bleu import distinct_ngrams, self_bleu
from lightning_gfn.metrics.functional.estimates import coverage, paths_found
from lightning_gfn.metrics.samples import Samples, chosen_samples, of_samples, require_samples
from lightning_gfn.similarity.counting import (
    components,
    correct_only,
    distinct_in_order,
    expected_distinct,
    require_threshold,
    similarities,
)
from lightning_gfn.similarity.rouge import Tokenizer, require_tokenizer
from lightning_gfn.types import EvalRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rule = Literal["greedy", "expected", "components"]

_COUNTS: Mapping[str, Callable[[NDArray[np.bool_]], float]] = {
    "greedy": distinct_in_order,
    "expected": expected_distinct,
    "components": lambda similar: len(components(similar)),
}


class DistinctCorrect(PerProblemMetric):
    """Distinct correct solutions by ROUGE-L F1: ``distinct_correct_rouge_0.7`` and so on.

    The mean is over all problems, 0 where no sample is correct; ``…_solved`` is the mean over problems with a correct
    sample. The rules ``expected`` and ``components`` put their name behind the threshold.

    Args:
        thresholds: values of ROUGE-L F1 from which on two solutions count as one, in (0, 1].
        rule: ``greedy`` in generation order, ``expected`` (greedy, averaged over all orders) or ``components``
            (connected ones).
        tokenizer: ``rouge``, the words of rouge-score (ASCII letters and digits), or ``unicode``, words of any script.
    """

    judges = True

    def __init__(
        self,
        thresholds: Sequence[float] = (0.7,),
        rule: Rule = "greedy",
        tokenizer: Tokenizer = "rouge",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if rule not in _COUNTS:
            raise ValueError(f"rule: unknown rule {rule!r}; use one of {', '.join(_COUNTS)}")
        if not thresholds:
            raise ValueError("thresholds: at least one is needed")
        self.thresholds = tuple(require_threshold(threshold) for threshold in thresholds)
        self.rule = rule
        self.tokenizer = require_tokenizer(tokenizer)

    @property
    def meaning(self) -> tuple[str, ...]:
        return self.keys if self.tokenizer == "rouge" else (*self.keys, f"tokenizer {self.tokenizer}")

    @property
    def keys(self) -> tuple[str, ...]:
        ending = "" if self.rule == "greedy" else f"_{self.rule}"
        names = [f"distinct_correct_rouge_{threshold:g}{ending}" for threshold in self.thresholds]
        return (*names, *(f"{name}_solved" for name in names))

    def row(self, record: EvalRecord) -> Sequence[float]:
        scores = similarities(correct_only(record.completions, record.correct), self.tokenizer)
        counts = [float(_COUNTS[self.rule](scores >= threshold)) for threshold in self.thresholds]
        return [*counts, *(count if len(scores) else math.nan for count in counts)]


class Coverage(PerProblemMetric):
    """Known solution paths that the samples found, over problems whose paths are known.

    Keys: ``coverage``, their share, and ``solution_paths_found``, their number; both 0 where none was found.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("coverage", "solution_paths_found")

    def row(self, record: EvalRecord) -> Sequence[float]:
        known = record.problem.solution_set
        if not known:
            return [math.nan, math.nan]
        return [coverage(record.completions, known), float(len(paths_found(record.completions, known)))]


class SelfBleu(PerProblemMetric):
    """Mean BLEU-4 of each sample against all other ones: ``self_bleu``, lower where they differ more.

    Over the correct samples of problems with at least two, since a problem with fewer has no pair to compare; or
    ``sample_self_bleu``, over all samples.

    Args:
        samples: ``correct`` ones, or ``all``.
    """

    def __init__(self, samples: Samples = "correct", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.samples = require_samples(samples)

    @property
    def keys(self) -> tuple[str, ...]:
        return (of_samples("self_bleu", self.samples),)

    def row(self, record: EvalRecord) -> Sequence[float]:
        scores = self_bleu(chosen_samples(record, self.samples))
        return [float(scores.mean()) if len(scores) > 1 else math.nan]


class DistinctNgrams(PerProblemMetric):
    """Distinct-n: different n-grams over all n-grams of a problem's samples: ``sample_distinct_2`` and so on.

    Words are those of self-BLEU; all samples count, right or wrong. Problems without any n-gram have no value.

    Args:
        orders: n of each value.

    Source: Li et al. 2016, arXiv:1510.03055, section 5.
    """

    def __init__(self, orders: Sequence[int] = (1, 2, 3, 4), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not orders or min(orders) < 1 or len(set(orders)) < len(orders):
            raise ValueError(f"orders: need different whole numbers of at least 1, not {list(orders)}")
        self.orders = tuple(orders)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"sample_distinct_{order}" for order in self.orders)

    def row(self, record: EvalRecord) -> Sequence[float]:
        return [distinct_ngrams(record.completions, order) for order in self.orders]


class DistinctEquations(PerProblemMetric):
    """Different sequences and different sets of equations among the correct samples.

    Keys: ``distinct_equation_sequences``, and ``distinct_equation_sets`` where the order of the equations and repeated
    ones do not count. The means are over all problems, 0 where no sample is correct. Correct samples without any
    equation count as one solution together. ``answers.equation_normal_form.equations`` states the normal form.
    """

    judges = True

    @property
    def keys(self) -> tuple[str, ...]:
        return ("distinct_equation_sequences", "distinct_equation_sets")

    def row(self, record: EvalRecord) -> Sequence[float]:
        sequences = {equations(text) for text in correct_only(record.completions, record.correct)}
        return [float(len(sequences)), float(len({frozenset(sequence) for sequence in sequences}))]
