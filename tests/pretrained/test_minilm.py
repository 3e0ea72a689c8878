"""The installed all-MiniLM-L6-v2 as the model of embedding distances. Needs it: make models."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_gfn.metrics.embeddings import EmbeddingDistance
from lightning_gfn.similarity.embedder import TextEmbedder
from lightning_gfn.types import EvalRecord, Problem

pytestmark = pytest.mark.pretrained

SENTENCES = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
PUBLISHED = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
"""Their cosines in the documentation of sentence-transformers (Quickstart)."""


def test_cosines_are_the_published_ones(minilm_folder: Path) -> None:
    vectors = TextEmbedder("sentence-minilm").embed(SENTENCES)
    assert vectors.shape == (3, 384) and np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    assert np.abs(vectors @ vectors.T - np.array(PUBLISHED)).max() < 1e-3


def test_embeddings_are_mean_pooled_states(minilm_folder: Path) -> None:
    """One text at a time without padding, by the classes that transformers picks."""
    from transformers import AutoModel, AutoTokenizer, BertModel

    tokenizer, model = AutoTokenizer.from_pretrained(minilm_folder), AutoModel.from_pretrained(minilm_folder).eval()
    assert isinstance(model, BertModel) and tokenizer("Hello")["input_ids"] == [101, 7592, 102]
    found = TextEmbedder(str(minilm_folder)).embed(SENTENCES)
    for row, sentence in zip(found, SENTENCES, strict=True):
        with torch.no_grad():
            states = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(0), dim=0).numpy()
        assert np.abs(row - expected).max() < 1e-5


def test_a_tokenizer_with_a_fixed_length_cuts_and_pads_as_asked(minilm_folder: Path) -> None:
    """The published tokenizer.json pads to 128 and cuts there; the metric's own limits hold instead."""
    embedder = TextEmbedder("sentence-minilm")
    assert len(embedder.tokenizer.encode("one two").ids) == 4
    assert len(embedder.tokenizer.encode("word " * 300).ids) == 302


def test_embedding_distance_takes_the_name(minilm_folder: Path) -> None:
    count = len(SENTENCES)
    record = EvalRecord(
        problem=Problem("p", "?"),
        temperature=1.0,
        completions=tuple(SENTENCES),
        correct=(True,) * count,
        log_probs=(0.0,) * count,
        lengths=(1,) * count,
        entropies=(0.0,) * count,
        truncated=(False,) * count,
    )
    metric = EmbeddingDistance("sentence-minilm")
    metric.update(record)
    expected = np.mean([1 - PUBLISHED[first][second] for first, second in itertools.combinations(range(3), 2)])
    assert metric.per_problem()["p"]["embedding_distance"] == pytest.approx(expected, abs=1e-3)
