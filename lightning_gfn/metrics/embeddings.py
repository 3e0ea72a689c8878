"""Diversity in the eyes of a language model: how far apart the embeddings of the correct samples lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.samples import Samples, chosen_samples, of_samples, require_samples
from lightning_gfn.pretrained.catalogue import resolve
from lightning_gfn.similarity.embedder import TextEmbedder, embedder
from lightning_gfn.types import EvalRecord


class EmbeddingMetric(PerProblemMetric):
    """A metric that reads texts by a model, which is loaded when it is first needed, once a process.

    Args:
        model: name of an installed model (``sentence-minilm``), Hugging Face name, or folder.
        max_tokens: longer texts are cut.
        batch_size: texts of one forward pass.
        settings: arguments of ``PerProblemMetric``.

    Raises:
        ValueError: a number is below 1, or the name is that of a model that is not installed.
    """

    def __init__(self, model: str, max_tokens: int = 512, batch_size: int = 64, **settings: Any) -> None:
        super().__init__(**settings)
        if max_tokens < 1 or batch_size < 1:
            raise ValueError(f"max_tokens={max_tokens} and batch_size={batch_size} must be at least 1")
        resolve(model, "model")
        self.model, self.max_tokens, self.batch_size = model, max_tokens, batch_size

    @property
    def embedder(self) -> TextEmbedder:
        """The model."""
        return embedder(self.model, self.max_tokens, self.batch_size)


class EmbeddingDistance(EmbeddingMetric):
    """Mean cosine distance between samples: ``embedding_distance`` of the correct ones, ``sample_…`` of all.

        mean over pairs i < j of 1 - cos(e_i, e_j)

    e is the mean of a model's last hidden states over the sample's tokens, without the prompt. Over problems with at
    least two such samples. Causal models put all texts into a narrow cone, so only comparisons of values under one
    model mean anything. The model is loaded when the first pair is met, once a process.

    Args:
        model: name of an installed model (``sentence-minilm``), Hugging Face name, or folder, of an encoder or of a
            causal model.
        max_tokens: longer samples are cut.
        batch_size: samples of one forward pass.
        samples: ``correct`` ones, or ``all``.
    """

    def __init__(
        self, model: str, max_tokens: int = 512, batch_size: int = 64, samples: Samples = "correct", **kwargs: Any
    ) -> None:
        super().__init__(model, max_tokens, batch_size, **kwargs)
        self.samples = require_samples(samples)

    @property
    def keys(self) -> tuple[str, ...]:
        return (of_samples("embedding_distance", self.samples),)

    @property
    def meaning(self) -> tuple[str, ...]:
        """The value depends on the model and on where texts are cut."""
        return (f"{self.keys[0]} by {self.model}, {self.max_tokens} tokens",)

    def row(self, record: EvalRecord) -> Sequence[float]:
        texts = chosen_samples(record, self.samples)
        if len(texts) < 2:
            return [math.nan]
        vectors = self.embedder.embed(texts, self.device)
        first, second = np.triu_indices(len(texts), k=1)
        return [float(np.mean(1.0 - np.sum(vectors[first] * vectors[second], axis=1)))]
