"""Classes of solutions that are alike: clusters of the texts that are given together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from lightning_gfn.similarity.counting import components, leaders, require_threshold, same_texts, similarities
from lightning_gfn.similarity.rouge import Tokenizer, require_tokenizer
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Linkage = Literal["components", "leaders"]


class Clusters(SolutionClasses):
    """Clusters of similar texts, numbered in the order in which they first occur.

    Args:
        threshold: similarity from which on two texts are linked, in (0, 1].
        linkage: ``components``: texts that a chain of links connects are one cluster; ``leaders``: in generation
            order, each text joins the first leader that it is linked to, or becomes a leader itself.

    Raises:
        ValueError: the threshold lies outside (0, 1], or there is no such linkage.
    """

    is_pointwise = False

    def __init__(self, threshold: float, linkage: Linkage) -> None:
        if linkage not in get_args(Linkage):
            raise ValueError(f"linkage: unknown choice {linkage!r}; use one of {', '.join(get_args(Linkage))}")
        self.threshold = require_threshold(threshold)
        self.linkage = linkage

    @abstractmethod
    def similar(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which pairs of M texts are linked, symmetric (M, M)."""

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """``cluster 1``, ``cluster 2``, …, one label a completion."""
        if not completions:
            return []
        similar = self.similar(completions)
        homes = leaders(similar)
        if self.linkage == "components":
            first = {text: found[0] for found in components(similar) for text in found}
            homes = [first[text] for text in range(len(completions))]
        return numbered(homes)


def numbered(homes: Sequence[int]) -> list[str | None]:
    """Labels of clusters, in the order in which they occur, from what the members of each share."""
    numbers = {home: number for number, home in enumerate(dict.fromkeys(homes), start=1)}
    return [f"cluster {numbers[home]}" for home in homes]


class RougeClusters(Clusters):
    """Clusters by ROUGE-L F1, the similarity that distinct-correct counts by.

    Args:
        threshold: ROUGE-L F1 from which on two texts are linked, in (0, 1].
        linkage: ``components`` or ``leaders``, see ``Clusters``.
        tokenizer: ``rouge``, ASCII letters and digits, or ``unicode``, words of any script.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(self, threshold: float = 0.7, linkage: Linkage = "components", tokenizer: Tokenizer = "rouge") -> None:
        super().__init__(threshold, linkage)
        self.tokenizer = require_tokenizer(tokenizer)

    @property
    def name(self) -> str:
        return f"rouge_{self.threshold:g}_{self.linkage}"

    @property
    def meaning(self) -> str:
        return self.name if self.tokenizer == "rouge" else f"{self.name}, tokenizer {self.tokenizer}"

    def similar(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """ROUGE-L F1 reaches the threshold, or the texts are equal."""
        return similarities(texts, self.tokenizer) >= self.threshold


class EmbeddingClusters(Clusters):
    """Clusters by the cosine of a language model's embeddings; the model is loaded when it is first needed.

    Args:
        model: name of an installed model (``sentence-minilm``), Hugging Face name, or folder.
        threshold: cosine from which on two texts are linked, in (0, 1].
        linkage: ``components`` or ``leaders``, see ``Clusters``.
        max_tokens: longer texts are cut.
        batch_size: texts of one forward pass.

    Raises:
        ValueError: a number is out of range.
        FileNotFoundError: the name is that of a model that is not installed.
    """

    def __init__(
        self,
        model: str,
        threshold: float = 0.9,
        linkage: Linkage = "components",
        max_tokens: int = 512,
        batch_size: int = 64,
    ) -> None:
        from lightning_gfn.pretrained.catalogue import resolve

        super().__init__(threshold, linkage)
        if max_tokens < 1 or batch_size < 1:
            raise ValueError(f"max_tokens={max_tokens} and batch_size={batch_size} must be at least 1")
        resolve(model, "model")
        self.model, self.max_tokens, self.batch_size = model, max_tokens, batch_size

    @property
    def name(self) -> str:
        return f"embedding_{self.threshold:g}_{self.linkage}"

    @property
    def meaning(self) -> str:
        return f"{self.name} by {self.model}, {self.max_tokens} tokens"

    def similar(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """The cosine reaches the threshold, or the texts are equal."""
        from lightning_gfn.similarity.embedder import embedder

        vectors = embedder(self.model, self.max_tokens, self.batch_size).embed(texts)
        return (vectors @ vectors.T >= self.threshold) | same_texts(texts)
