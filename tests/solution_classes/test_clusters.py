"""Clusters by ROUGE-L and by embeddings against written loops, and labels in order."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from lightning_gfn.similarity.counting import similarities
from lightning_gfn.similarity.embedder import TextEmbedder, embedder
from lightning_gfn.solution_classes import Clusters, EmbeddingClusters, RougeClusters
from lightning_gfn.solution_classes.clusters import Linkage
from lightning_gfn.types import Problem

PROBLEM = Problem("p", "?")
WORDS = ["take", "five", "nuts", "from", "the", "bag", "add", "three", "more", "of", "them", "to", "it"]


class GivenLinks(Clusters):
    """Links as they are given."""

    def __init__(self, links: np.ndarray, linkage: Linkage) -> None:
        super().__init__(1.0, linkage)
        self.links = links

    @property
    def name(self) -> str:
        return "given"

    def similar(self, texts: object) -> np.ndarray:
        return self.links


def relabelled_until_nothing_changes(links: np.ndarray) -> list[int]:
    """Components: every text takes the least label among those that it is linked to, again and again."""
    labels = list(range(len(links)))
    while True:
        new = [min(labels[j] for j in range(len(links)) if links[i, j] or i == j) for i in range(len(links))]
        if new == labels:
            return labels
        labels = new


def led_in_order(links: np.ndarray) -> list[int]:
    """Leaders, by a written loop."""
    chosen: list[int] = []
    homes = []
    for text in range(len(links)):
        linked = [leader for leader in chosen if links[text, leader]]
        if not linked:
            chosen.append(text)
            linked = [text]
        homes.append(linked[0])
    return homes


def in_order(homes: list[int]) -> list[str]:
    seen: list[int] = []
    for home in homes:
        if home not in seen:
            seen.append(home)
    return [f"cluster {seen.index(home) + 1}" for home in homes]


def test_components_and_leaders_equal_written_loops() -> None:
    rng = np.random.default_rng(0)
    differ = 0
    for size in [1, 2, 3, 5, 8, 13] * 20:
        links = rng.random((size, size)) < 0.25
        links = links | links.T | np.eye(size, dtype=bool)
        texts = [""] * size
        by_components = GivenLinks(links, "components").labels(PROBLEM, texts)
        by_leaders = GivenLinks(links, "leaders").labels(PROBLEM, texts)
        assert by_components == in_order(relabelled_until_nothing_changes(links))
        assert by_leaders == in_order(led_in_order(links))
        differ += by_components != by_leaders
    assert differ > 10, "the two rules are told apart"


def test_rouge_clusters() -> None:
    random = Random(0)
    texts = [" ".join(random.choices(WORDS, k=6)) for _ in range(20)]
    texts += [texts[0] + " \n", "", ""]
    for threshold in (0.5, 0.7, 1.0):
        links = similarities(texts) >= threshold
        found = RougeClusters(threshold).labels(PROBLEM, texts)
        assert found == in_order(relabelled_until_nothing_changes(links))
        assert found[0] == found[20] and found[21] == found[22], "equal texts are one, even without a word"
    assert RougeClusters().labels(PROBLEM, []) == []
    assert not RougeClusters().is_pointwise
    with pytest.raises(ValueError, match=r"the reward compares classes of several batches, and RougeClusters"):
        RougeClusters().require_pointwise("the reward")


def test_names_and_meanings() -> None:
    assert RougeClusters(0.7).name == "rouge_0.7_components" == RougeClusters(0.7).meaning
    assert RougeClusters(0.65, "leaders", "unicode").meaning == "rouge_0.65_leaders, tokenizer unicode"
    with pytest.raises(ValueError, match="linkage: unknown choice 'chains'; use one of components, leaders"):
        RougeClusters(0.7, "chains")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold"):
        RougeClusters(0.0)
    with pytest.raises(ValueError, match="tokenizer"):
        RougeClusters(0.7, tokenizer="words")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size=0"):
        EmbeddingClusters("x", batch_size=0)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A tiny random model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lightning_gfn.policies.text.tokenizers import TokenizerSettings, make_tokenizer

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=259, max_position_embeddings=128, **sizes)).save_pretrained(tmp_path)
    make_tokenizer(TokenizerSettings(), []).save_pretrained(tmp_path)
    return str(tmp_path)


def test_embedding_clusters_equal_a_written_loop_and_load_when_needed(folder: str) -> None:
    embedder.cache_clear()
    texts = ["3 * 9 = 27.", "3 * 9 = 28.", "Take 27.", "Take 29, adding", "x", "x "]
    vectors = TextEmbedder(folder).embed(texts)
    cosines = [[float(a @ b) / float(np.sqrt((a @ a) * (b @ b))) for b in vectors] for a in vectors]
    levels = sorted(cosines[i][j] for i in range(len(texts)) for j in range(i) if texts[i].strip() != texts[j].strip())
    between = [(low + high) / 2 for low, high in zip(levels, levels[1:], strict=False) if low > 0 and high - low > 1e-4]
    assert between
    for threshold in [*between, 1.0]:
        classes = EmbeddingClusters(folder, threshold)
        assert embedder.cache_info().currsize <= 1
        links = np.array([[c >= threshold for c in row] for row in cosines]) | np.eye(len(texts), dtype=bool)
        links[4, 5] = links[5, 4] = True
        assert classes.labels(PROBLEM, texts) == in_order(relabelled_until_nothing_changes(links))
    assert EmbeddingClusters(folder, 0.9).meaning == f"embedding_0.9_components by {folder}, 512 tokens"
    embedder.cache_clear()


def test_a_model_is_not_loaded_by_naming_it(folder: str) -> None:
    embedder.cache_clear()
    EmbeddingClusters(folder, 0.9).labels(PROBLEM, [])
    assert embedder.cache_info().currsize == 0


@pytest.mark.pretrained
def test_a_real_sentence_model_tells_meanings_apart(minilm_folder: Path) -> None:
    texts = ["A man is eating food.", "Somebody eats a meal.", "The train leaves at noon."]
    assert EmbeddingClusters("sentence-minilm", 0.5).labels(PROBLEM, texts) == ["cluster 1", "cluster 1", "cluster 2"]
