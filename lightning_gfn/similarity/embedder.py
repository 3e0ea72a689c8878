"""Embeddings of texts by a language model that is loaded once a process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_gfn.pretrained.catalogue import resolve

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class TextEmbedder:
    """Mean-pooled last hidden states of a Hugging Face model, scaled to length one; every text is embedded once.

    Args:
        model: name or folder of an encoder or of a causal model, with a ``tokenizer.json``; ``sentence-minilm`` is
            the one that ``lightning-gfn model install sentence-minilm`` fetches.
        max_tokens: longer texts are cut.
        batch_size: texts of one forward pass.

    Raises:
        FileNotFoundError: the model or its tokenizer cannot be had.
    """

    def __init__(self, model: str, *, max_tokens: int = 512, batch_size: int = 64) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel
        from transformers.utils.hub import cached_file

        name = resolve(model, "model")
        folder = Path(name).expanduser()
        name = str(folder) if folder.is_dir() else name
        try:
            tokenizer_file = cached_file(name, "tokenizer.json")
            with _quiet():
                self.model = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"embedding model {model!r} cannot be loaded ({error}): give a Hugging Face name or a folder with "
                "config.json, weights and tokenizer.json, such as the folder 'model' of a run"
            ) from error
        self.tokenizer = Tokenizer.from_file(tokenizer_file)
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding()
        self.batch_size = batch_size
        self._known: dict[str, NDArray[np.float64]] = {}
        self._known_tokens: dict[str, NDArray[np.float64]] = {}

    @torch.no_grad()
    def embed(self, texts: Sequence[str], device: torch.device | str = "cpu") -> NDArray[np.float64]:
        """Unit vectors, (M, H), of M texts.

        Args:
            texts: any texts; empty ones get the zero vector if their tokenizer adds no special token.
            device: where to compute.

        Returns:
            One row a text, float64.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for batch, _, mask, hidden in self._passes(new, device):
            kept = torch.where(mask[..., None].bool(), hidden, 0.0).sum(1)
            pooled = kept / mask.sum(1, keepdim=True).clamp_min(1)
            rows = torch.nn.functional.normalize(pooled.double(), dim=1).cpu().numpy()
            self._known.update(zip(batch, rows, strict=True))
        return np.stack([self._known[text] for text in texts])

    @torch.no_grad()
    def embed_tokens(self, texts: Sequence[str], device: torch.device | str = "cpu") -> list[NDArray[np.float64]]:
        """Unit vectors, (tokens, H), of the tokens of each text, special tokens left out.

        Args:
            texts: any texts; every different one is embedded once.
            device: where to compute.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known_tokens]
        for batch, encoded, _, hidden in self._passes(new, device):
            vectors = torch.nn.functional.normalize(hidden.double(), dim=2).cpu().numpy()
            for text, row, own in zip(batch, encoded, vectors, strict=True):
                self._known_tokens[text] = own[np.asarray(row.special_tokens_mask, dtype=bool) == 0]
        return [self._known_tokens[text] for text in texts]

    def _passes(
        self, texts: Sequence[str], device: torch.device | str
    ) -> Iterator[tuple[Sequence[str], list[Any], Tensor, Tensor]]:
        """Batches of texts with their encodings, masks (M, T) and last hidden states (M, T, H)."""
        if texts:
            self.model.to(device)
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            encoded = self.tokenizer.encode_batch(batch)
            ids = torch.tensor([row.ids for row in encoded], dtype=torch.int64, device=device)
            mask = torch.tensor([row.attention_mask for row in encoded], dtype=torch.int64, device=device)
            if ids.shape[1] == 0:
                hidden = torch.zeros(len(batch), 0, self.model.config.hidden_size, device=device)
            else:
                hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            yield batch, encoded, mask, hidden


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the report that the output layer of a causal model is not used."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@cache
def embedder(model: str, max_tokens: int, batch_size: int) -> TextEmbedder:
    """The embedder of a model, loaded once a process."""
    return TextEmbedder(model, max_tokens=max_tokens, batch_size=batch_size)
