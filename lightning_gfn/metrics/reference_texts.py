"""Metrics of texts beside reference texts, for any data with reference solutions; right and wrong samples count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.embeddings import EmbeddingMetric
from lightning_gfn.metrics.functional.reference_texts import bleu, gleu, greedy_matching
from lightning_gfn.types import EvalRecord


class ReferenceOverlap(PerProblemMetric):
    """Mean BLEU-4 and GLEU-4 of the samples against the problem's reference solutions: ``bleu_4``, ``gleu_4``.

    Over problems with reference solutions; both lie in [0, 1], papers often give percent.

    Source: ``metrics.functional.reference_texts``.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("bleu_4", "gleu_4")

    def row(self, record: EvalRecord) -> Sequence[float]:
        references = record.problem.solutions
        if not references:
            return [math.nan, math.nan]
        return [fmean(score(text, references) for text in record.completions) for score in (bleu, gleu)]


class BertScore(EmbeddingMetric):
    """Mean BERTScore of the samples against the problem's reference solutions, not rescaled.

    Keys: ``bert_score_precision``, ``bert_score_recall``, ``bert_score_f1``. Tokens are matched by the cosine of a
    model's last hidden states. Values of different models do not compare. Over problems with reference solutions.

    Args:
        model: name of an installed model (``sentence-minilm``), Hugging Face name, or folder, of an encoder.
        max_tokens: longer texts are cut.
        batch_size: texts of one forward pass.

    Source: Zhang et al. 2020, arXiv:1904.09675.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("bert_score_precision", "bert_score_recall", "bert_score_f1")

    @property
    def meaning(self) -> tuple[str, ...]:
        """The values depend on the model and on where texts are cut."""
        return (f"bert_score by {self.model}, {self.max_tokens} tokens",)

    def row(self, record: EvalRecord) -> Sequence[float]:
        references = record.problem.solutions
        if not references:
            return [math.nan] * len(self.keys)
        texts = [text.strip() for text in (*record.completions, *references)]
        vectors = self.embedder.embed_tokens(texts, self.device)
        own, right = vectors[: len(record.completions)], vectors[len(record.completions) :]
        scores = [greedy_matching(text_TH, right) for text_TH in own]
        return [fmean(column) for column in zip(*scores, strict=True)]


class Agreement(PerProblemMetric):
    """Share of the samples that agree with each side that the data know of: ``agrees_with_<side>``.

    ``metadata["agreement"]`` of a problem maps a side, such as the ``beginning`` of a story, to all completions that
    agree with it. Over problems that know the side; unlike the solve rate it says which side a sample went against.

    Args:
        sides: which of them.
    """

    def __init__(self, sides: Sequence[str] = ("beginning", "both"), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not sides:
            raise ValueError("sides: at least one is needed")
        self.sides = tuple(sides)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"agrees_with_{side}" for side in self.sides)

    def row(self, record: EvalRecord) -> Sequence[float]:
        known = record.problem.metadata.get("agreement", {})
        return [
            fmean(text in known[side] for text in record.completions) if side in known else math.nan
            for side in self.sides
        ]
