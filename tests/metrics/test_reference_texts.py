"""BLEU, GLEU and BERTScore against reference texts: plain loops, torchmetrics, limits, and what counts."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.functional import reference_texts
from lightning_gfn.metrics.functional.bleu import bleu_tokens, self_bleu
from lightning_gfn.metrics.functional.reference_texts import bleu, gleu, greedy_matching
from lightning_gfn.metrics.reference_texts import Agreement, BertScore, ReferenceOverlap
from lightning_gfn.similarity.embedder import TextEmbedder
from lightning_gfn.types import EvalRecord, Problem

WORDS = ["she", "he", "ran", "fixed", "the", "kite", "dog", "with", "tape", "and", "a", "at", "park", "old", ",", "."]
PAIRS = [
    ("She taped the kite together with some glue.", "She mended the kite."),
    ("He ran.", "He chased the dog around the park for hours and hours."),
    ("A dog ran off with it.", "The dog took a very long walk."),
]


def record(texts: Sequence[str], **problem: Any) -> EvalRecord:
    count = len(texts)
    return EvalRecord(
        problem=Problem("p", "?", **problem), temperature=1.0, completions=tuple(texts), correct=(False,) * count,
        log_probs=(0.0,) * count, lengths=(1,) * count, entropies=(0.0,) * count, truncated=(False,) * count,
    )  # fmt: skip


def value(metric: PerProblemMetric, taken: EvalRecord) -> dict[str, float]:
    metric.update(taken)
    return metric.per_problem()["p"]


def random_texts(count: int, seed: int) -> list[str]:
    numbers = random.Random(seed)
    return [" ".join(numbers.choices(WORDS, k=numbers.randrange(1, 14))) for _ in range(count)]


def grams(text: str, order: int) -> Counter[tuple[str, ...]]:
    words = bleu_tokens(text)
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def plain_gleu(text: str, references: Sequence[str]) -> float:
    """The best reference's min(precision, recall) over all n-grams together."""
    own = sum((grams(text, n) for n in range(1, 5)), Counter())
    scores = []
    for reference in references:
        other = sum((grams(reference, n) for n in range(1, 5)), Counter())
        scores.append(sum((own & other).values()) / max(sum(own.values()), sum(other.values())))
    return max(scores)


def plain_bleu(text: str, references: Sequence[str]) -> float:
    logs = []
    for n in range(1, 5):
        own, most = grams(text, n), Counter[tuple[str, ...]]()
        for reference in references:
            most |= grams(reference, n)
        matched = sum((own & most).values())
        if n == 1 and not matched:
            return 0.0
        logs.append(math.log((matched or 0.1) / max(1, sum(own.values()))))
    length = len(bleu_tokens(text))
    closest = min((len(bleu_tokens(other)) for other in references), key=lambda other: (abs(other - length), other))
    return min(1.0, math.exp(1.0 - closest / length)) * math.exp(sum(logs) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_those_of_plain_loops(seed: int) -> None:
    texts, references = random_texts(12, seed), random_texts(3, seed + 100)
    for text in texts:
        assert bleu(text, references) == pytest.approx(plain_bleu(text, references), abs=1e-12)
        assert gleu(text, references) == pytest.approx(plain_gleu(text, references), abs=1e-12)
    assert [bleu(texts[0], texts[1:])] == pytest.approx(self_bleu(texts)[:1])


def test_overlaps_at_their_ends() -> None:
    assert bleu(" He ran home fast", ["he ran home fast"]) == gleu("He ran home fast", ["he ran home fast"]) == 1.0
    assert bleu("x y", ["a b c d"]) == gleu("x y", ["a b c d"]) == 0.0 == bleu("", ["a"]) == gleu("", ["a"])


def test_another_smoothing_or_order_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_texts, "EPSILON", 0.2)
    with pytest.raises(AssertionError):
        test_overlaps_are_those_of_plain_loops(0)
    monkeypatch.setattr(reference_texts, "EPSILON", 0.1)
    monkeypatch.setattr(reference_texts, "ORDER", 3)
    with pytest.raises(AssertionError):
        test_overlaps_are_those_of_plain_loops(0)


def test_the_overlap_metric_takes_every_sample_and_every_reference() -> None:
    references = ("he ran home fast", "she sat down there")
    found = value(ReferenceOverlap(), record([references[1], "x"], solutions=references))
    assert found == {"bleu_4": pytest.approx(0.5), "gleu_4": pytest.approx(0.5)}
    assert value(ReferenceOverlap(), record(["x"])) == {}


# ---------------------------------------------------------------- BERTScore


def units(shape: tuple[int, int], seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).normal(size=shape)
    return numbers / np.linalg.norm(numbers, axis=1, keepdims=True)


def test_greedy_matching_is_a_plain_loop() -> None:
    text, references = units((5, 7), 0), [units((3, 7), 1), units((8, 7), 2)]
    expected = []
    for other in references:
        p = sum(max(float(a @ b) for b in other) for a in text) / len(text)
        r = sum(max(float(a @ b) for a in text) for b in other) / len(other)
        expected.append((p, r, 2 * p * r / (p + r)))
    assert greedy_matching(text, references) == pytest.approx(tuple(map(max, zip(*expected, strict=True))))
    assert greedy_matching(text, [text]) == pytest.approx((1.0, 1.0, 1.0))
    assert greedy_matching(text[:0], references) == (0.0, 0.0, 0.0) == greedy_matching(text, [text[:0]])


@pytest.mark.pretrained
def test_bert_score_is_that_of_torchmetrics(minilm_folder: Path) -> None:
    """A pair a call: torchmetrics 1.9 sorts texts by length and puts several back in a wrong order.

    It also takes cosine 0, that of its masked places, where all cosines of a token are negative; here none are.
    """
    from torchmetrics.functional.text.bert import bert_score

    encoder = TextEmbedder(str(minilm_folder))

    def tokens(texts: list[str], **settings: Any) -> dict[str, torch.Tensor]:
        rows = encoder.tokenizer.encode_batch(texts)
        pairs = {"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows]}
        return {name: torch.tensor(value) for name, value in pairs.items()}

    def forward(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state

    metric = BertScore(str(minilm_folder))
    for text, reference in PAIRS:
        theirs = bert_score([text], [reference], model=encoder.model, user_tokenizer=tokens, user_forward_fn=forward)
        found = value(metric, record([f" {text}"], solutions=(reference,)))
        metric.reset()
        for name in ("precision", "recall", "f1"):
            assert found[f"bert_score_{name}"] == pytest.approx(float(theirs[name]), abs=1e-5), (text, name)


@pytest.mark.pretrained
def test_bert_score_of_several_samples_is_their_mean(minilm_folder: Path) -> None:
    texts, references = [text for text, _ in PAIRS], tuple(reference for _, reference in PAIRS)
    metric = BertScore("sentence-minilm", batch_size=2)
    found = value(metric, record(texts, solutions=references))
    single = [value(BertScore("sentence-minilm"), record([text], solutions=references)) for text in texts]
    for name, got in found.items():
        assert got == pytest.approx(sum(row[name] for row in single) / 3, abs=1e-6)
    assert value(BertScore("sentence-minilm"), record([references[0], ""], solutions=references[:1])) == {
        f"bert_score_{name}": pytest.approx(0.5) for name in ("precision", "recall", "f1")
    }
    assert value(BertScore("sentence-minilm"), record(["x"])) == {}
    assert metric.meaning == ("bert_score by sentence-minilm, 512 tokens",)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="max_tokens=0"):
        BertScore("sentence-minilm", max_tokens=0)
    with pytest.raises(ValueError, match="sides: at least one"):
        Agreement(sides=())


def test_agreement_counts_each_side() -> None:
    sides = {"beginning": ("a", "b", "c"), "both": ("a",)}
    found = value(Agreement(), record(["a", "b", "x", "a"], metadata={"agreement": sides}))
    assert found == {"agrees_with_beginning": 0.75, "agrees_with_both": 0.5}
    assert value(Agreement(), record(["a"])) == {}
    assert value(Agreement(("both", "ending")), record(["a"], metadata={"agreement": sides})) == {
        "agrees_with_both": 1.0
    }
